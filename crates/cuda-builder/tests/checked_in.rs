//! What is checked in under `kernels/ptx/` was made of the sources that are checked in beside it. Needs neither a
//! toolchain for GPUs nor ptxas, so that a forgotten rebuild fails everywhere.

use std::{fs, path::Path};

use cuda_builder::{Arch, CudaBuilder, Header, leftovers};
use fused_lora_kernels::{instructions::INSTRUCTIONS, table::KERNELS};

/// A PTX file that is checked in.
struct Module {
    file: &'static str,
    feature: Option<&'static str>,
    /// Its entries: name, threads of a CTA, CTAs that must fit on a multiprocessor.
    entries: Vec<(&'static str, u32, u32)>,
}

fn modules() -> [Module; 2] {
    [
        Module {
            file: "sm_80.ptx",
            feature: None,
            entries: KERNELS.iter().map(|kernel| (kernel.name, kernel.threads, kernel.min_ctas)).collect(),
        },
        Module {
            file: "sm_80_instructions.ptx",
            feature: Some("instructions"),
            entries: INSTRUCTIONS.iter().map(|entry| (entry.name, entry.threads, 1)).collect(),
        },
    ]
}

/// The workspace's kernels.
fn kernels() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernels")
}

fn checked_in(file: &str) -> String {
    let path = kernels().join("ptx").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn ptx_is_of_these_sources() {
    for Module { file, feature, .. } in modules() {
        let header = Header::parse(&checked_in(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let builder = CudaBuilder::new(kernels()).arch(Arch::Sm80);
        let builder = feature.into_iter().fold(builder, CudaBuilder::feature);
        assert_eq!(
            header.sources,
            builder.source_hash().expect("the sources are there"),
            "kernels/ptx/{file} was made of other sources or with other flags: run `cargo run -p cuda-builder`, and commit \
             kernels/ptx"
        );
    }
}

#[test]
fn report_is_of_these_sources() {
    let header = Header::parse(&checked_in("sm_80.ptx")).unwrap_or_else(|error| panic!("{error}"));
    assert!(
        checked_in("REPORT.md").contains(&header.sources.to_string()),
        "kernels/ptx/REPORT.md is of another build than sm_80.ptx: run `cargo run -p cuda-builder` where there is a ptxas"
    );
}

#[test]
fn ptx_has_the_entries_of_its_table_and_nothing_else() {
    for Module { file, entries: rows, .. } in modules() {
        let ptx = checked_in(file);
        assert_eq!(leftovers(&ptx), [], "{file}");
        let mut entries: Vec<_> = ptx
            .lines()
            .filter_map(|line| line.strip_prefix(".visible .entry "))
            .map(|rest| rest.trim_end_matches("()").trim_end_matches('('))
            .collect();
        let mut rows: Vec<_> = rows.into_iter().map(|(name, ..)| name).collect();
        entries.sort_unstable();
        rows.sort_unstable();
        assert_eq!(entries, rows, "{file}");
    }
}

#[test]
fn every_entry_has_the_launch_bounds_of_its_row() {
    for Module { file, entries, .. } in modules() {
        let ptx = checked_in(file);
        for (name, threads, min_ctas) in entries {
            let entry = ptx
                .split_once(&format!(".entry {name}("))
                .unwrap_or_else(|| panic!("{file}: no entry {name}"))
                .1;
            let declaration = entry.split_once('{').expect("a body").0;
            let bounds = format!(".maxntid {threads}, 1, 1\n.minnctapersm {min_ctas}\n");
            assert!(declaration.ends_with(&bounds), "{name}: {declaration}");
        }
    }
}

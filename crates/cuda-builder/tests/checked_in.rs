//! What is checked in under `kernels/ptx/` was made of the sources that are checked in beside it. Needs neither a
//! toolchain for GPUs nor ptxas, so that a forgotten rebuild fails everywhere.

use std::fs;

use cuda_builder::{Header, Kernels, Workspace, directives, leftovers};

fn checked_in(kernels: &Kernels<'_>) -> String {
    let path = kernels.ptx();
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn header(kernels: &Kernels<'_>) -> Header {
    Header::parse(&checked_in(kernels)).unwrap_or_else(|error| panic!("{}: {error}", kernels.file()))
}

/// What stands between the name of an entry and its body.
fn declaration<'a>(ptx: &'a str, entry: &str) -> &'a str {
    let (_, after) =
        ptx.split_once(&format!(".entry {entry}(")).unwrap_or_else(|| panic!("there is no entry {entry}"));
    after.split_once('{').expect("a body").0
}

#[test]
fn there_is_ptx_for_ampere_and_its_instructions_at_least() {
    let workspace = Workspace::find();
    let files: Vec<_> = workspace.kernels().map(|kernels| kernels.file()).collect();
    assert!(files.starts_with(&["sm_80.ptx".to_owned(), "sm_80_instructions.ptx".to_owned()]), "{files:?}");
}

#[test]
fn ptx_is_of_these_sources() {
    for kernels in Workspace::find().kernels() {
        assert_eq!(
            header(&kernels).sources,
            kernels.builder().source_hash().expect("the sources are there"),
            "kernels/ptx/{} was made of other sources or with other flags: run `cargo run -p cuda-builder`, and commit \
             kernels/ptx",
            kernels.file()
        );
    }
}

#[test]
fn the_lines_are_of_the_ptx_beside_them() {
    for kernels in Workspace::find().kernels() {
        let path = kernels.lines();
        let lines = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let of = lines.lines().next().and_then(|line| line.strip_prefix("sources "));
        assert_eq!(of, Some(&*header(&kernels).sources), "{}", path.display());
    }
}

#[test]
fn report_is_of_these_sources() {
    let workspace = Workspace::find();
    let path = workspace.report();
    let report = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for kernels in workspace.kernels().filter(Kernels::shipped) {
        assert!(
            report.contains(&header(&kernels).sources),
            "kernels/ptx/REPORT.md is of another build than {}: run `cargo run -p cuda-builder` where there is a ptxas",
            kernels.file()
        );
    }
}

#[test]
fn ptx_has_the_entries_of_its_table_and_nothing_else() {
    for kernels in Workspace::find().kernels() {
        let ptx = checked_in(&kernels);
        assert_eq!(leftovers(&ptx), [""; 0], "{}", kernels.file());
        let mut entries: Vec<_> = ptx
            .lines()
            .filter_map(|line| line.strip_prefix(".visible .entry "))
            .map(|rest| rest.trim_end_matches("()").trim_end_matches('(').to_owned())
            .collect();
        let mut rows: Vec<_> = kernels.specs().into_iter().map(|spec| spec.name).collect();
        entries.sort_unstable();
        rows.sort_unstable();
        assert_eq!(entries, rows, "{}", kernels.file());
    }
}

#[test]
fn every_entry_has_the_launch_bounds_of_its_row() {
    for kernels in Workspace::find().kernels() {
        let ptx = checked_in(&kernels);
        for spec in kernels.specs() {
            let declaration = declaration(&ptx, &spec.name);
            assert!(declaration.ends_with(&format!(")\n{}", directives(&spec))), "{declaration}");
        }
    }
}

#[test]
fn tensor_maps_are_aligned_where_there_are_any() {
    for kernels in Workspace::find().kernels() {
        let ptx = checked_in(&kernels);
        for spec in kernels.specs() {
            let parameter = format!(".param .align 64 .b8 {}_param_0[", spec.name);
            let aligned = declaration(&ptx, &spec.name).contains(&parameter);
            assert_eq!(aligned, spec.tensor_maps, "{}: {}", kernels.file(), spec.name);
        }
    }
}

//! What is checked in under `kernels/ptx/` was made of the sources that are checked in beside it. Needs
//! neither a toolchain for GPUs nor ptxas, so that a forgotten rebuild fails everywhere.

use std::fs;

use cuda_builder::{Header, Module, Workspace, directives, leftovers};

fn checked_in(module: &Module) -> String {
    let path = &module.ptx;
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn header(module: &Module) -> Header {
    Header::parse(&checked_in(module)).unwrap_or_else(|error| panic!("{}: {error}", module.file()))
}

/// What stands between the name of an entry and its body.
fn declaration<'a>(ptx: &'a str, entry: &str) -> &'a str {
    let (_, after) =
        ptx.split_once(&format!(".entry {entry}(")).unwrap_or_else(|| panic!("there is no entry {entry}"));
    after.split_once('{').expect("a body").0
}

#[test]
fn ptx_is_of_these_sources() {
    for module in Workspace::find().modules() {
        assert_eq!(
            header(&module).sources,
            module.builder.source_hash().expect("the sources are there"),
            "kernels/ptx/{} was made of other sources or with other flags: run `cargo run -p cuda-builder`, \
             and commit \
             kernels/ptx",
            module.file()
        );
    }
}

#[test]
fn the_lines_are_of_the_ptx_beside_them() {
    for module in Workspace::find().modules() {
        let path = module.lines();
        let lines = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let of = lines.lines().next().and_then(|line| line.strip_prefix("sources "));
        assert_eq!(of, Some(&*header(&module).sources), "{}", path.display());
    }
}

#[test]
fn report_is_of_these_sources() {
    let workspace = Workspace::find();
    let path = workspace.report();
    let report = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for module in workspace.modules().iter().filter(|module| module.shipped) {
        assert!(
            report.contains(&header(module).sources),
            "kernels/ptx/REPORT.md is of another build than {}: run `cargo run -p cuda-builder` where there \
             is a ptxas",
            module.file()
        );
    }
}

#[test]
fn ptx_has_the_entries_of_its_table_and_nothing_else() {
    for module in Workspace::find().modules() {
        let ptx = checked_in(&module);
        assert_eq!(leftovers(&ptx), [""; 0], "{}", module.file());
        let mut entries: Vec<_> = ptx
            .lines()
            .filter_map(|line| line.strip_prefix(".visible .entry "))
            .map(|rest| rest.trim_end_matches("()").trim_end_matches('(').to_owned())
            .collect();
        let mut rows: Vec<_> = module.specs.iter().map(|spec| spec.name.clone()).collect();
        entries.sort_unstable();
        rows.sort_unstable();
        assert_eq!(entries, rows, "{}", module.file());
    }
}

#[test]
fn every_entry_has_the_launch_bounds_of_its_row() {
    for module in Workspace::find().modules() {
        let ptx = checked_in(&module);
        for spec in &module.specs {
            let declaration = declaration(&ptx, &spec.name);
            assert!(declaration.ends_with(&format!(")\n{}", directives(spec))), "{declaration}");
        }
    }
}

#[test]
fn tensor_maps_are_aligned_where_there_are_any() {
    for module in Workspace::find().modules() {
        let ptx = checked_in(&module);
        for spec in &module.specs {
            let parameter = format!(".param .align 64 .b8 {}_param_0[", spec.name);
            let aligned = declaration(&ptx, &spec.name).contains(&parameter);
            assert_eq!(aligned, spec.tensor_maps, "{}: {}", module.file(), spec.name);
        }
    }
}

//! Where records come from and figures go to.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{fixture, fixture_path};
use fused_lora_heatmap::{Colormap, Error, Metric, Origin, Output, Query, Report, Source, Vmax};
use fused_lora_records::{Fault, Record, VERSION_LINE, parse, workspace_root};

fn output() -> Output {
    Output { svg: "new svg".into(), png: b"new png".to_vec(), csv: b"new csv".to_vec() }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn named_files_are_read_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.csv"), "not read").unwrap();
    let named = [fixture_path()];
    let source = Source::load(&named, folder.path()).unwrap();
    assert_eq!((source.records, source.origin), (fixture(), Origin::Named(named.to_vec())));
}

#[test]
fn named_files_without_records_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.csv");
    fs::write(&empty, "").unwrap();
    let error = Source::load(&[empty], folder.path()).unwrap_err();
    assert!(matches!(&error, Error::NoRecords(_)) && error.to_string().contains("empty.csv"), "{error}");
}

#[test]
fn measurements_are_found_by_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixture_path()).unwrap();
    fs::write(folder.path().join("b.csv"), &text).unwrap();
    fs::write(folder.path().join("a.csv"), text.replace("made-up,", "another,")).unwrap();
    fs::write(folder.path().join("notes.txt"), "not read").unwrap();
    let source = Source::load(&[], folder.path()).unwrap();
    let files: Vec<PathBuf> = ["a.csv", "b.csv"].map(|name| folder.path().join(name)).to_vec();
    assert_eq!(source.origin, Origin::Measured(files));
    assert_eq!(source.records.len(), 2 * fixture().len());
}

#[test]
fn bad_measurements_are_an_error_not_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(fixture_path()).unwrap();
    fs::write(folder.path().join("bad.csv"), text.replace(",cold,", ",cold,,")).unwrap();
    let error = Source::load(&[], folder.path()).unwrap_err();
    let Error::Records(error) = error else { panic!("{error}") };
    assert!(matches!((error.line, &error.fault), (Some(3), Fault::FieldCount { .. })), "{error}");
    let error = Source::load(&[], &fixture_path()).unwrap_err();
    assert!(matches!(error, Error::Folder { .. }), "{error}");
}

#[test]
fn without_measurements_the_published_data_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let none = Source::load(&[], &folder.path().join("no such folder")).unwrap();
    assert_eq!(none.origin, Origin::Published);
    assert!(none.records.iter().any(|record| record.workload == "linear-1024x1024"));
    for method in ["base", "unfused", "fused"] {
        assert!(none.records.iter().any(|record| record.method == method), "{method}");
    }
    // A measurement that was stopped before its first cell is none.
    fs::write(folder.path().join("torn.csv"), format!("{VERSION_LINE}\nrun,work")).unwrap();
    let torn = Source::load(&[], folder.path()).unwrap();
    assert_eq!((torn.origin, torn.warnings.len()), (Origin::Published, 1));
    assert_eq!(torn.records, none.records);
}

#[test]
fn the_published_data_is_that_of_figures() {
    let none = Source::load(&[], Path::new("no such folder")).unwrap();
    // Each file is named as its figure is: workload, or few tokens, and backend.
    let stem = |record: &Record| {
        format!("{}-{}", if record.seq_len == 1 { "decode" } else { &record.workload }, record.backend)
    };
    let mut stems: Vec<String> = none.records.iter().map(stem).collect();
    stems.dedup();
    assert!(stems.contains(&"linear-1024x1024-cpu".to_owned()), "{stems:?}");
    let mut published = Vec::new();
    for stem in stems {
        let path = workspace_root().join(format!("figures/{stem}.csv"));
        let found = parse(&path, &fs::read(&path).unwrap()).unwrap();
        assert_eq!(found.warnings, []);
        published.extend(found.records);
    }
    assert_eq!(none.records, published);
}

/// The published files are of version 1. All of them, also those of peers in other types, can be looked at.
#[test]
fn every_published_file_can_be_drawn() {
    let files: Vec<PathBuf> = fs::read_dir(workspace_root().join("figures"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "csv"))
        .collect();
    assert!(files.len() >= 9, "{files:?}");
    for file in files {
        let records = Source::load(std::slice::from_ref(&file), Path::new("")).unwrap().records;
        if records.iter().all(|record| record.seq_len == 1) {
            let selection = Query::default().select_decode(records, Metric::OverLimit);
            selection.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            continue;
        }
        let report = Report {
            query: Query::default(),
            metric: Metric::Time,
            vmax: Vmax::Auto,
            colormap: Colormap::Rocket,
        };
        let html = report.html(records).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        assert!(html.contains("<svg "));
    }
}

#[test]
fn three_files_are_written_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b");
    let paths = output().write(&deep, "name-1.5").unwrap();
    let expected = ["name-1.5.svg", "name-1.5.png", "name-1.5.csv"].map(|name| deep.join(name));
    assert_eq!(paths, expected);
    assert_eq!(fs::read_to_string(&paths[0]).unwrap(), "new svg");
    let newer = Output { svg: "newer svg".into(), ..output() };
    newer.write(&deep, "name-1.5").unwrap();
    assert_eq!(fs::read_to_string(&paths[0]).unwrap(), "newer svg");
    assert_eq!(names(&deep), ["name-1.5.csv", "name-1.5.png", "name-1.5.svg"]);
}

#[cfg(unix)]
#[test]
fn the_files_can_be_read_by_whoever_reads_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let ordinary = folder.path().join("ordinary");
    fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    for path in output().write(folder.path(), "figure").unwrap() {
        assert_eq!(mode(&path), mode(&ordinary));
    }
}

#[test]
fn what_cannot_be_written_whole_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["figure.svg", "figure.png"] {
        fs::write(folder.path().join(name), "old").unwrap();
    }
    // A folder stands where the last file should go.
    fs::create_dir(folder.path().join("figure.csv")).unwrap();
    let error = output().write(folder.path(), "figure").unwrap_err();
    assert!(error.to_string().contains("figure.csv: cannot be written"), "{error}");
    for name in ["figure.svg", "figure.png"] {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "old");
    }
    assert_eq!(names(folder.path()), ["figure.csv", "figure.png", "figure.svg"], "no temporary file is left");
    // A file stands where the folder should be.
    let error = output().write(&folder.path().join("figure.svg/deeper"), "figure").unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
}

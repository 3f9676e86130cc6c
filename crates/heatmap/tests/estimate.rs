//! The figure of estimates: what it says of itself, and that it is never beside what was measured.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use common::{Drawing, fixture, fixture_path};
use fused_lora::plan::Gpu;
use fused_lora_estimate::{Estimate, LABEL, Set, estimate};
use fused_lora_heatmap::{Colormap, EstimateQuery, Figure, Metric, Query, Vmax};
use fused_lora_records::Workload;

fn query(set: Set) -> EstimateQuery {
    let workload = Workload::by_name("linear-1024x1024").unwrap();
    EstimateQuery { workload, set, vmax: Vmax::Fixed(35.0), colormap: Colormap::Rocket }
}

fn estimates() -> Vec<Estimate> {
    estimate(&Gpu::from_data_sheet("h200").unwrap(), &[query(Set::Pessimistic).workload]).unwrap()
}

#[test]
fn each_panel_says_that_nothing_was_measured_and_hides_no_number() {
    let drawing = Drawing::of(&query(Set::Pessimistic).figure("NVIDIA H200", &estimates()).unwrap());
    let labels: Vec<_> = drawing.texts.iter().filter(|text| text.text == LABEL).collect();
    assert_eq!(labels.len(), 6);
    for row in 0..2 {
        for column in 0..3 {
            let (first, _) = drawing.cell(row, column, 0, 0);
            let (last, _) = drawing.cell(row, column, 5, 3);
            let own: Vec<_> = labels
                .iter()
                .filter(|label| {
                    (first.x..last.x).contains(&label.at.0) && (first.y..last.y).contains(&label.at.1)
                })
                .collect();
            assert_eq!(own.len(), 1, "panel {row}, {column}");
            let [left, top, right, bottom] = own[0].extent(0.6);
            assert!(right - left > 0.5 * f64::from(last.x + last.width - first.x), "across the panel");
            for number in drawing.texts.iter().filter(|text| text.text.parse::<f64>().is_ok()) {
                let [from, above, to, below] = number.extent(0.6);
                assert!(to <= left || from >= right || below <= top || above >= bottom, "{number:?}");
            }
        }
    }
    assert!(drawing.texts.iter().any(|text| text.text.contains("estimate, not measured: NVIDIA H200")));
}

#[test]
fn each_cell_shows_its_estimate_by_the_set_that_was_asked_for() {
    let estimates = estimates();
    for set in Set::ALL {
        let drawing = Drawing::of(&query(set).figure("NVIDIA H200", &estimates).unwrap());
        for (row, of) in [(0, "unfused"), (1, "fused")] {
            for (cell, _, _, texts) in drawing.row(row) {
                let own = estimates.iter().find(|estimate| estimate.cell == cell).unwrap();
                let seconds = if of == "fused" { own.fused } else { own.unfused };
                let number = format!("{:.1}", own.slowdown_pct(seconds, set));
                assert!(texts.iter().any(|text| text.text == number), "{of} {cell}: {number} {texts:?}");
            }
        }
        assert!(drawing.texts.iter().any(|text| text.text.contains(&format!("{set} constants"))));
    }
}

#[test]
fn what_was_measured_has_no_such_label() {
    let selection = Query::default().select(fixture(), Metric::Slowdown).unwrap();
    let figure = Figure::new(&selection, Metric::Slowdown, Vmax::Fixed(35.0), Colormap::Rocket);
    assert!(Drawing::of(&figure).texts.iter().all(|text| !text.text.contains("estimate")));
}

fn heatmap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heatmap")).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn its_files_are_named_estimates_and_are_no_records() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    let output = heatmap(&["--estimate", "h200", "--out", out, "--workload", "gpt2-medium-linears"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let stem = "estimate-h200-gpt2-medium-linears-pessimistic";
    let files = ["svg", "png", "csv"].map(|extension| folder.path().join(format!("{stem}.{extension}")));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().map(Path::new).collect::<Vec<_>>(), files);
    let csv = fs::read_to_string(&files[2]).unwrap();
    assert!(csv.starts_with("# estimate, not measured: NVIDIA H200"), "{csv}");
    assert!(csv.lines().skip(2).all(|line| line.starts_with("gpt2-medium-linears,")));
    assert_eq!(csv.lines().count(), 2 + 72);
    // Drawn as if it had been measured.
    let csv = files[2].to_str().unwrap();
    let output = heatmap(&["--data", csv, fixture_path().to_str().unwrap(), "--out", out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(stem), "{}", stderr(&output));
}

#[test]
fn estimates_and_records_are_not_asked_for_together() {
    for more in [
        &["--data", "x.csv"][..],
        &["--rows", "fused"],
        &["--report"],
        &["--publish"],
        &["--figure", "decode"],
        &["--metric", "time"],
        &["--backend", "cuda"],
    ] {
        let output = heatmap(&[&["--estimate", "h200"], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(stderr(&output).contains("cannot be used with"), "{more:?}: {}", stderr(&output));
    }
    for (arguments, part) in [
        (&["--estimate", "voodoo2"][..], "h100, h200, a100, l4, rtx4090"),
        (&["--constants", "optimistic"], "--estimate"),
    ] {
        let output = heatmap(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    let output = heatmap(&["--estimate", "h200", "--workload", "gpt2-medium-layer"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("linear layers alone"), "{}", stderr(&output));
}

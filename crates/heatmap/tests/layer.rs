//! The figures of a transformer layer: the published one, its answer, and all rows in one sheet.

mod common;

use std::fs;
use std::process::Command;

use common::{Drawing, fixture, layer_fixture, layer_path};
use fused_lora_heatmap::{Colormap, Figure, LAYER_ROWS, Metric, Query, Selection, Vmax, draw_svg};
use fused_lora_records::{BATCHES, Cell, RANKS, Record, SEQ_LENS, grid, read};

const ADAPTERS: [&str; 2] = ["adapter-h", "adapter-l"];
const LORA: [&str; 2] = ["lora-unfused", "lora-fused"];

fn query(rows: &[&str]) -> Query {
    Query { rows: rows.iter().map(|row| (*row).to_owned()).collect(), ..Query::default() }
}

fn select(rows: &[&str], records: Vec<Record>) -> Selection {
    query(rows).select(records, Metric::Slowdown).unwrap()
}

fn draw(rows: &[&str], records: Vec<Record>) -> Drawing {
    let figure = Figure::new(
        &select(rows, records),
        Metric::Slowdown,
        Vmax::default_of(Metric::Slowdown),
        Colormap::default(),
    );
    Drawing::parse(&draw_svg(&figure).unwrap())
}

/// Each cell of a row of panels: its rectangle, its fill and its number.
fn cells(drawing: &Drawing, row: usize) -> impl Iterator<Item = (Cell, common::Rect, String, String)> + '_ {
    grid().map(move |cell| {
        let column = SEQ_LENS.iter().position(|seq_len| *seq_len == cell.seq_len).unwrap();
        let batch = BATCHES.iter().position(|batch| *batch == cell.batch).unwrap();
        let rank = RANKS.iter().position(|rank| *rank == cell.rank).unwrap();
        let (rect, fill) = drawing.cell(row, column, batch, rank);
        let texts = drawing.texts_in(rect);
        assert_eq!(texts.len(), 1, "row {row} at {cell}");
        (cell, rect, fill.to_owned(), texts[0].text.clone())
    })
}

/// Geometry, titles, axes and colour bar are those of every figure (`svg.rs`); the layer's has other labels.
#[test]
fn the_published_figure_has_its_labels_and_order() {
    let drawing = draw(&ADAPTERS, layer_fixture());
    assert_eq!((drawing.cells.len(), drawing.rows.len(), drawing.columns.len()), (144, 2, 3));
    let (top_left, _) = drawing.cell(0, 0, 0, 0);
    for (row, label) in ["Adapterᴴ r", "Adapterᴸ r"].into_iter().enumerate() {
        let labels = drawing.texts_saying(label);
        let (first, _) = drawing.cell(row, 0, 0, 0);
        let (last, _) = drawing.cell(row, 0, 0, 3);
        assert_eq!(labels.len(), 1);
        assert!(labels[0].upwards && labels[0].at.0 < top_left.x);
        assert!((labels[0].at.1 - (first.y + last.y + last.height) / 2).abs() <= 1, "beside its row");
    }
    // The labels name the rows: nothing else stands there.
    let is_upwards = |text: &&common::Text| text.upwards;
    let upwards: Vec<&str> = drawing.texts.iter().filter(is_upwards).map(|text| text.text.as_str()).collect();
    assert_eq!(upwards, ["Adapterᴴ r", "Adapterᴸ r", "slow-down vs r = 0 (%)"]);
    assert_eq!(drawing.polygons.len(), 0, "no number above 35 here");
}

#[test]
fn the_answer_is_drawn_on_the_same_axes() {
    let (published, answer) = (draw(&ADAPTERS, layer_fixture()), draw(&LORA, layer_fixture()));
    assert_eq!((&published.columns, &published.rows), (&answer.columns, &answer.rows));
    let words = answer.words();
    for label in ["LoRA unfused r", "LoRA fused r"] {
        assert_eq!(answer.texts_saying(label).len(), 1, "{words}");
    }
    assert!(!words.contains("Adapter"), "{words}");
}

#[test]
fn all_rows_make_one_tall_sheet_with_each_rows_own_numbers() {
    let records = layer_fixture();
    let sheet = draw(&[], records.clone());
    assert_eq!(sheet.rows.len(), 4);
    assert_eq!(sheet.polygons.len(), 1, "LoRA on all projections exceeds 35 at r = 250");
    for (row, method) in LAYER_ROWS.into_iter().enumerate() {
        for (cell, _, fill, text) in cells(&sheet, row) {
            let is_it = |record: &&Record| record.method == method && record.cell() == cell;
            let value = records.iter().find(is_it).unwrap().slowdown_pct.unwrap();
            let number = format!("{value:.1}");
            assert_eq!(text, if number == "-0.0" { "0.0" } else { &number }, "{method} at {cell}");
            assert_eq!(fill, Colormap::Rocket.at(value / 35.0).to_string(), "{method} at {cell}");
        }
    }
    let labels = ["Adapterᴴ r", "Adapterᴸ r", "LoRA unfused r", "LoRA fused r"];
    let ys: Vec<i32> = labels.iter().map(|label| sheet.texts_saying(label)[0].at.1).collect();
    assert!(ys.is_sorted(), "top to bottom: {ys:?}");
    assert_eq!(sheet.texts.iter().filter(|text| text.text.starts_with("Seq Len")).count(), 3);
}

/// Boxes of all texts, from the bundled font's mean advance.
#[test]
fn no_two_texts_overlap() {
    for rows in [&[][..], &ADAPTERS, &LORA, &["lora-fused"]] {
        let drawing = draw(rows, layer_fixture());
        let extent = |text: &common::Text| {
            let (length, half) = (0.56 * text.size * text.text.chars().count() as f64, 0.4 * text.size);
            let (x, y) = (f64::from(text.at.0), f64::from(text.at.1));
            let start = match text.anchor.as_str() {
                "start" => 0.0,
                "middle" => -length / 2.0,
                _ => -length,
            };
            if text.upwards {
                (x - half, y - length / 2.0, x + half, y + length / 2.0)
            } else {
                (x + start, y - half, x + start + length, y + half)
            }
        };
        let boxes: Vec<_> = drawing.texts.iter().map(|text| (extent(text), &text.text)).collect();
        for (i, (a, name)) in boxes.iter().enumerate() {
            assert!(a.0 > 0.0 && a.1 > 0.0, "'{name}' runs out");
            assert!(a.2 < f64::from(drawing.size.0) && a.3 < f64::from(drawing.size.1), "'{name}' runs out");
            for (b, other) in &boxes[..i] {
                let apart = a.2 <= b.0 || b.2 <= a.0 || a.3 <= b.1 || b.3 <= a.1;
                assert!(apart, "'{name}' overlaps '{other}'");
            }
        }
    }
}

#[test]
fn the_rows_follow_the_workload_unless_named() {
    let methods = |selection: &Selection| -> Vec<String> {
        selection.rows.iter().map(|row| row.method.clone()).collect()
    };
    // Both were measured, the layer last.
    let both = || [layer_fixture(), fixture()].concat();
    let newest = select(&[], both());
    assert_eq!(methods(&newest), LAYER_ROWS);
    assert_eq!(newest.workload, "gpt2-medium-layer");
    assert_eq!(newest.left_out, ["workload linear-1024x1024"]);
    let linear = Query { workload: Some("linear-1024x1024".into()), ..Query::default() };
    assert_eq!(methods(&linear.select(both(), Metric::Slowdown).unwrap()), ["unfused", "fused"]);
    // A whole model is drawn like its layer; a row that was not measured is drawn empty.
    let mut model = layer_fixture();
    model.retain(|record| record.method != "adapter-l");
    for record in &mut model {
        record.workload = "gpt2-medium".into();
    }
    let model = select(&[], model);
    assert_eq!(methods(&model), LAYER_ROWS);
    assert_eq!(model.rows.iter().map(|row| row.records.len()).collect::<Vec<_>>(), [72, 0, 72, 72]);
}

#[test]
fn names_of_files_tell_the_layers_figures_apart() {
    let stem = |rows: &[&str]| select(rows, layer_fixture()).stem(Metric::Slowdown);
    assert_eq!(stem(&[]), "gpt2-medium-layer-cpu");
    assert_eq!(stem(&LAYER_ROWS), "gpt2-medium-layer-cpu");
    assert_eq!(stem(&ADAPTERS), "gpt2-medium-layer-cpu-adapter-h-adapter-l");
    assert_eq!(stem(&LORA), "gpt2-medium-layer-cpu-lora-unfused-lora-fused");
}

#[test]
fn the_bare_layer_goes_into_the_csv() {
    let selection = select(&ADAPTERS, layer_fixture());
    assert_eq!(selection.base.len(), 18);
    assert!(selection.base.iter().all(|record| record.method == "none" && record.rank == 0));
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_heatmap"))
        .args(["--rows", "adapter-h,adapter-l", "--data"])
        .arg(layer_path())
        .arg("--out")
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let csv = folder.path().join("gpt2-medium-layer-cpu-adapter-h-adapter-l.csv");
    let written = read(std::slice::from_ref(&csv)).unwrap().records;
    let mut expected = layer_fixture();
    expected.retain(|record| !record.method.starts_with("lora"));
    let order = |record: &Record| (record.method.clone(), record.cell());
    let sorted = |mut records: Vec<Record>| {
        records.sort_by_key(order);
        records
    };
    assert_eq!(sorted(written), sorted(expected));
    assert!(fs::read(csv.with_extension("png")).unwrap().starts_with(b"\x89PNG"));
}

#[test]
fn floors_are_told_apart_by_method() {
    let words = draw(&[], layer_fixture()).words();
    let floors = "floor (arithmetic alone) at r = 10 / 100 / 250: adapter-h 0.3 / 3.3 / 8.1 % · \
                  adapter-l 0.2 / 1.6 / 4.1 % · lora-unfused, lora-fused 1.3 / 13.0 / 32.6 %";
    assert!(words.contains(floors), "{words}");
    let words = draw(&LORA, layer_fixture()).words();
    let shared =
        "floor (the adapter's arithmetic alone): 1.3 % at r = 10, 13.0 % at r = 100, 32.6 % at r = 250";
    assert!(words.contains(shared), "{words}");
    // One that nobody recorded is not made up.
    let mut records = layer_fixture();
    for record in &mut records {
        if record.method == "adapter-h" || record.rank == 100 {
            record.floor_pct = None;
        }
    }
    let words = draw(&ADAPTERS, records).words();
    let some = "floor (the adapter's arithmetic alone): 0.2 % at r = 10, 4.1 % at r = 250";
    assert!(words.contains(some), "{words}");
}

#[test]
fn the_footer_says_how_wide_the_intervals_are() {
    let mut records = layer_fixture();
    let widest = records.iter_mut().find(|record| record.method == "adapter-l").unwrap();
    widest.slowdown_hi_pct = Some(widest.slowdown_lo_pct.unwrap() + 4.2);
    let words = draw(&ADAPTERS, records.clone()).words();
    assert!(words.contains("95 % intervals: ±0.5 points in the median cell, ±2.1 in the widest"), "{words}");
    for record in &mut records {
        (record.slowdown_lo_pct, record.slowdown_hi_pct) = (None, None);
    }
    assert!(!draw(&ADAPTERS, records).words().contains("intervals"));
}

#[test]
fn lora_on_some_projections_is_labelled_with_them() {
    let mut records = layer_fixture();
    records.retain(|record| record.method == "lora-fused");
    for record in &mut records {
        record.method = "lora-fused-qv".into();
    }
    let drawing = draw(&["lora-fused-qv"], records);
    assert_eq!(drawing.texts_saying("LoRA fused (q, v) r").len(), 1);
}

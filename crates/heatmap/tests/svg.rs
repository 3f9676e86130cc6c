//! The SVG holds what the figure must show, where it must show it.

mod common;

use std::collections::{HashMap, HashSet};

use clap::ValueEnum as _;
use common::{Drawing, draw, figure, fixture, layer_fixture, select, written};
use fused_lora_heatmap::{Colormap, Figure, FigureRow, LAYER_ROWS, Metric, Rgb, Scale, Vmax};
use fused_lora_records::{BATCHES, Cell, Clock, RANKS, Record, SEQ_LENS, grid};
use proptest::prelude::*;

const METHODS: [&str; 2] = ["unfused", "fused"];
const ADAPTERS: [&str; 2] = ["adapter-h", "adapter-l"];
const LORA: [&str; 2] = ["lora-unfused", "lora-fused"];

fn slowdown(records: &[Record], method: &str, cell: Cell) -> f64 {
    let mut found = records.iter().filter(|record| record.method == method && record.cell() == cell);
    let record = found.next().unwrap();
    assert!(found.next().is_none());
    record.slowdown_pct.unwrap()
}

#[test]
fn six_panels_of_six_batches_and_four_ranks() {
    let drawing = draw(&[], fixture());
    assert_eq!(drawing.cells.len(), 144);
    assert_eq!(drawing.columns.iter().map(Vec::len).collect::<Vec<_>>(), [6, 6, 6]);
    assert_eq!(drawing.rows.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
    // Each place once: `cell` looks.
    assert_eq!((0..2).flat_map(|row| drawing.row(row)).count(), 144);
}

#[test]
fn each_cell_has_its_number_and_its_colour() {
    for (methods, records) in [(&METHODS[..], fixture()), (&LAYER_ROWS, layer_fixture())] {
        let drawing = draw(&[], records.clone());
        let mut fills = HashSet::new();
        let cells =
            methods.iter().enumerate().flat_map(|(row, method)| drawing.row(row).map(move |c| (method, c)));
        for (method, (cell, rect, fill, texts)) in cells {
            let value = slowdown(&records, method, cell);
            let colour = Colormap::Rocket.at(value / 35.0);
            assert_eq!(fill, colour.to_string(), "{method} at {cell}");
            assert_eq!(texts.len(), 1, "{method} at {cell}");
            let text = texts[0];
            assert_eq!(text.text, written(value), "{method} at {cell}");
            assert_eq!((text.at, text.anchor.as_str()), (rect.centre(), "middle"));
            let ink = if colour.luminance() > 0.25 { "#000000" } else { "#FFFFFF" };
            assert_eq!(text.fill, ink, "{method} at {cell} on {fill}");
            fills.insert(fill);
        }
        assert!(fills.len() > 20, "many values, many colours");
    }
}

#[test]
fn dark_is_zero_light_is_vmax_and_beyond() {
    let set = |method: &str, cell: Cell, value: f64| {
        let mut records = fixture();
        let change = |record: &&mut Record| record.method == method && record.cell() == cell;
        records.iter_mut().find(change).unwrap().slowdown_pct = Some(value);
        let drawing = draw(&[], records);
        let (rect, fill) = drawing.at(usize::from(method == "fused"), cell);
        let text = drawing.texts_in(rect)[0];
        (fill.to_owned(), text.text.clone(), text.fill.clone())
    };
    let expect = |fill: &str, text: &str, ink: &str| (fill.to_owned(), text.to_owned(), ink.to_owned());
    let cell = Cell { seq_len: 256, batch: 8, rank: 100 };
    let (dark, light) = ("#03051A", "#FAEBDD");
    assert_eq!(set("fused", cell, 0.0), expect(dark, "0.0", "#FFFFFF"));
    assert_eq!(set("fused", cell, -0.42), expect(dark, "-0.4", "#FFFFFF"));
    assert_eq!(set("unfused", cell, -12.0), expect(dark, "-12.0", "#FFFFFF"));
    assert_eq!(set("fused", cell, 35.0), expect(light, "35.0", "#000000"));
    assert_eq!(set("unfused", cell, 123.45), expect(light, "123.5", "#000000"));
    let (middle, ..) = set("fused", cell, 17.5);
    assert_eq!(middle, Colormap::Rocket.at(0.5).to_string());
}

#[test]
fn titles_stand_over_the_top_row_only() {
    let drawing = draw(&[], fixture());
    for (column, seq_len) in SEQ_LENS.into_iter().enumerate() {
        let titles = drawing.texts_saying(&format!("Seq Len = {seq_len}"));
        assert_eq!(titles.len(), 1);
        let (first, _) = drawing.cell(0, column, 0, 0);
        let (last, _) = drawing.cell(0, column, BATCHES.len() - 1, 0);
        assert!(titles[0].at.1 < first.y, "above the top row");
        let middle = (first.x + last.x + last.width) / 2;
        assert!((titles[0].at.0 - middle).abs() <= 1, "over the middle of its panels");
    }
    assert_eq!(drawing.texts.iter().filter(|text| text.text.contains("Seq Len")).count(), 3);
}

#[test]
fn axes_say_what_they_are() {
    let drawing = draw(&[], fixture());
    let (top_left, _) = drawing.cell(0, 0, 0, 0);
    let (bottom_left, _) = drawing.cell(1, 0, 0, 3);
    let below = bottom_left.y + bottom_left.height;
    for column in 0..SEQ_LENS.len() {
        for (i, batch) in BATCHES.into_iter().enumerate() {
            let (cell, _) = drawing.cell(1, column, i, 3);
            let labels: Vec<_> = drawing
                .texts_saying(&batch.to_string())
                .into_iter()
                .filter(|text| text.at.0 == cell.centre().0 && text.at.1 > below)
                .collect();
            assert_eq!(labels.len(), 1, "batch {batch} below column {column}");
        }
    }
    let x_labels = drawing.texts_saying("Batch Size");
    assert_eq!(x_labels.len(), 3);
    assert!(x_labels.iter().all(|text| text.at.1 > below && !text.upwards));
    for (row, method) in METHODS.into_iter().enumerate() {
        // r = 0 at the top, as seaborn draws the first row of a table.
        for (j, rank) in RANKS.into_iter().enumerate() {
            let (cell, _) = drawing.cell(row, 0, 0, j);
            let is_rank = |text: &&&common::Text| text.at.1 == cell.centre().1 && text.at.0 < top_left.x;
            assert_eq!(drawing.texts_saying(&rank.to_string()).iter().filter(is_rank).count(), 1);
        }
        let (first, _) = drawing.cell(row, 0, 0, 0);
        let (last, _) = drawing.cell(row, 0, 0, 3);
        let middle = (first.y + last.y + last.height) / 2;
        let beside = |label: &str| {
            let is_beside = |text: &&&common::Text| {
                text.upwards && text.at.0 < top_left.x && (text.at.1 - middle).abs() <= 1
            };
            drawing.texts_saying(label).iter().filter(is_beside).count()
        };
        assert_eq!((beside(method), beside("Adapter r")), (1, 1));
    }
    assert_eq!(drawing.texts_saying("Adapter r").len(), 2);
}

#[test]
fn the_colour_bar_is_shared_labelled_and_marked() {
    let drawing = draw(&[], fixture());
    let right = drawing.cells.iter().map(|(rect, _)| rect.x + rect.width).max().unwrap();
    let labels = drawing.texts_saying("slow-down vs r = 0 (%)");
    assert_eq!(labels.len(), 1);
    assert!(labels[0].at.0 > right && labels[0].upwards);
    let marks: Vec<&str> = drawing
        .texts
        .iter()
        .filter(|text| text.at.0 > right && !text.upwards)
        .map(|text| text.text.as_str())
        .collect();
    assert_eq!(marks, ["0", "5", "10", "15", "20", "25", "30", "35"]);
    // 0 at the bottom of all panels, 35 at the top.
    let y = |mark: &str| drawing.texts.iter().find(|t| t.text == mark && t.at.0 > right).unwrap().at.1;
    let (top, _) = drawing.cell(0, 0, 0, 0);
    let (bottom, _) = drawing.cell(1, 0, 0, 3);
    assert_eq!((y("35"), y("0")), (top.y, bottom.y + bottom.height));
}

#[test]
fn the_arrow_is_there_only_where_a_number_exceeds_the_bar() {
    let light = Colormap::Rocket.at(1.0).to_string();
    assert_eq!(draw(&[], fixture()).polygons, [light], "r = 250 exceeds 35");
    let with = |vmax: Vmax| {
        let figure = Figure::new(&select(&[], fixture()), Metric::Slowdown, vmax, Colormap::Rocket);
        (Drawing::of(&figure).polygons.len(), figure.exceeds_vmax())
    };
    assert_eq!(with(Vmax::Auto), (0, false));
    assert_eq!(with(Vmax::Fixed(100.0)), (0, false));
    assert_eq!(with(Vmax::Fixed(72.0)), (1, true));
    let below: Vec<Record> = fixture()
        .into_iter()
        .map(|record| Record { slowdown_pct: record.slowdown_pct.map(|value| value.min(35.0)), ..record })
        .collect();
    assert_eq!(draw(&[], below).polygons.len(), 0, "35 itself is on the bar");
}

#[test]
fn missing_cells_are_hatched_and_named() {
    let gone = [
        ("unfused", Cell { seq_len: 128, batch: 1, rank: 0 }),
        ("fused", Cell { seq_len: 512, batch: 32, rank: 250 }),
    ];
    let mut records = fixture();
    records.retain(|record| !gone.contains(&(record.method.as_str(), record.cell())));
    // A record without the number is as good as none.
    let numberless = ("fused", Cell { seq_len: 256, batch: 4, rank: 10 });
    for record in &mut records {
        if (record.method.as_str(), record.cell()) == numberless {
            record.slowdown_pct = None;
        }
    }
    let expected = [gone[0], numberless, gone[1]];
    assert_eq!(figure(&[], records.clone()).missing(), expected);
    assert_eq!(figure(&[], fixture()).missing(), []);
    let drawing = draw(&[], records);
    let cells = (0..2).flat_map(|row| drawing.row(row).map(move |cell| (METHODS[row], cell)));
    for (method, (cell, rect, fill, texts)) in cells {
        let inside = |line: &&Vec<(i32, i32)>| line.iter().all(|point| rect.holds(*point));
        let lines = drawing.polylines.iter().filter(inside).count();
        let texts = texts.len();
        if expected.contains(&(method, cell)) {
            assert_eq!((fill, texts), ("#ECECEC", 0), "{method} at {cell}");
            assert!(lines >= 5, "{method} at {cell}: {lines} lines");
        } else {
            assert_eq!((lines, texts), (0, 1), "{method} at {cell}");
        }
    }
    assert!(drawing.words().contains("hatched: not measured"));
    assert!(!draw(&[], fixture()).words().contains("hatched"));
}

#[test]
fn the_footer_says_where_the_numbers_come_from() {
    let words = draw(&[], fixture()).words();
    for item in ["fixture", "cpu", "2 threads", "avx2", "linear-1024x1024", "commit unknown", "2026-01-01"] {
        assert!(words.contains(item), "{item} in {words}");
    }
    assert!(words.contains("2.0 % at r = 10, 19.5 % at r = 100, 48.8 % at r = 250"), "{words}");
    let mut records = fixture();
    for record in &mut records {
        record.commit = "0123456789abcdef0123456789abcdef01234567".into();
        record.dirty = true;
        record.device = "<Xeon> & \"co\"\u{1}".into();
    }
    records.last_mut().unwrap().measured_at = "2026-03-04T00:00:00Z".parse().unwrap();
    let words = draw(&[], records).words();
    assert!(words.contains("commit 0123456789ab (dirty)"), "{words}");
    assert!(words.contains("<Xeon> & \"co\""), "{words}");
    assert!(words.contains("2026-01-01 to 2026-03-04"), "{words}");
}

#[test]
fn the_footer_names_type_and_adapters() {
    let words = draw(&[], fixture()).words();
    assert!(words.contains("N = 1024 · f16 · cold caches"), "{words}");
    let other = |record| Record { dtype: "bf16".into(), adapters: 4, ..record };
    let words = draw(&[], fixture().into_iter().map(other).collect()).words();
    assert!(words.contains("N = 1024 · bf16 · 4 adapters · cold caches"), "{words}");
}

#[test]
fn the_footer_counts_repeated_rounds_and_ratios_of_cpu_time() {
    let mut records = fixture();
    for record in &mut records {
        // Those of the base are not drawn.
        let is_base = record.method == "base";
        (record.samples, record.repeated) = if is_base { (1, 1000) } else { (6, 0) };
        record.ratio_by = if is_base { Clock::Cpu } else { Clock::Wall };
    }
    let words = draw(&[], records.clone()).words();
    assert!(words.contains("0.0 % of rounds repeated"), "{words}");
    assert!(!words.contains("CPU time"), "{words}");
    let mut drawn = records.iter_mut().filter(|record| record.method != "base");
    // 144 cells of 6 samples: 864, and 96 rounds repeated, which are 10 % of all 960.
    let first = drawn.next().unwrap();
    (first.repeated, first.ratio_by) = (90, Clock::Cpu);
    drawn.next().unwrap().repeated = 6;
    let words = draw(&[], records.clone()).words();
    assert!(words.contains("10.0 % of rounds repeated"), "{words}");
    assert!(words.contains("ratios of CPU time in 1 cell") && !words.contains("1 cells"), "{words}");
    records.last_mut().unwrap().ratio_by = Clock::Cpu;
    let figure = |metric| Figure::new(&select(&[], records.clone()), metric, Vmax::Auto, Colormap::Rocket);
    let notes = |metric| figure(metric).footer.concat().join("\n");
    assert!(notes(Metric::Slowdown).contains("ratios of CPU time in 2 cells"));
    assert!(notes(Metric::OverFloor).contains("ratios of CPU time in 2 cells"));
    let of_times = notes(Metric::Time);
    assert!(!of_times.contains("CPU") && of_times.contains("10.0 % of rounds repeated"), "{of_times}");
    // Without a single round there is no share.
    for record in &mut records {
        (record.samples, record.repeated) = (0, 0);
    }
    assert!(!draw(&[], records).words().contains("rounds repeated"));
}

/// Of fewer than 6 rounds there are no intervals.
#[test]
fn cells_without_intervals_are_drawn_and_counted() {
    let mut records = fixture();
    for record in records.iter_mut().filter(|record| record.seq_len == 512) {
        (record.samples, record.time_lo_ns, record.time_hi_ns) = (4, None, None);
        (record.slowdown_lo_pct, record.slowdown_hi_pct) = (None, None);
    }
    let drawing = draw(&[], records);
    let words = drawing.words();
    let says = "95 % intervals: ±0.5 points in the median cell, ±0.5 in the widest, none in 48 cells";
    assert!(words.contains(says), "{words}");
    for (row, column) in [(0, 0), (0, 2), (1, 2)] {
        let of = |drawing: &Drawing| drawing.texts_in(drawing.cell(row, column, 3, 2).0)[0].text.clone();
        assert_eq!(of(&drawing), of(&draw(&[], fixture())));
    }
}

#[test]
fn no_text_runs_out_of_the_picture() {
    let mut records = fixture();
    for record in &mut records {
        record.device = format!("A device with a name {}", "that goes on and on ".repeat(30));
        if record.method == "fused" {
            record.method = "a-method-with-a-name-that-is-far-too-long-for-its-row".into();
        }
    }
    let rows = ["a-method-with-a-name-that-is-far-too-long-for-its-row"];
    let drawing = draw(&rows, records);
    assert!(drawing.words().contains('…'));
    for text in &drawing.texts {
        // The bundled font's mean advance is below 0.6 of its size.
        let [left, top, right, bottom] = text.extent(0.6);
        let ends = if text.upwards { [top, bottom] } else { [left, right] };
        let end = f64::from(if text.upwards { drawing.size.1 } else { drawing.size.0 });
        assert!(ends[0] > -1.0 && ends[1] < end + 1.0, "{}: {ends:?} of {end}", text.text);
    }
}

#[test]
fn the_font_falls_back_to_one_without_serifs() {
    let families = Vec::from_iter(draw(&[], fixture()).families);
    assert_eq!(families, ["DejaVu Sans, Verdana, sans-serif"]);
}

#[test]
fn every_metric_draws_its_numbers() {
    let records = fixture();
    let cell = Cell { seq_len: 512, batch: 32, rank: 250 };
    let record = records.iter().find(|record| record.method == "fused" && record.cell() == cell).unwrap();
    let expected = [
        (Metric::Slowdown, format!("{:.1}", record.slowdown_pct.unwrap()), "slow-down vs r = 0 (%)"),
        (Metric::Time, format!("{:.0}", record.time_ns / 1e6), "time of a forward pass (ms)"),
        (Metric::Gflops, format!("{:.0}", record.gflops.unwrap()), "useful GFLOP/s"),
        (
            Metric::OverFloor,
            format!("{:.1}", record.slowdown_pct.unwrap() - record.floor_pct.unwrap()),
            "slow-down over the floor (points)",
        ),
        (Metric::OverLimit, format!("{:.2}", record.time_ns / record.limit_ns.unwrap()), "time / limit"),
    ];
    assert_eq!(expected.len(), Metric::value_variants().len());
    let selection = select(&[], records.clone());
    for (metric, text, label) in expected {
        let figure = Figure::new(&selection, metric, Vmax::default_of(metric), Colormap::Mako);
        let drawing = Drawing::of(&figure);
        let (rect, _) = drawing.cell(1, 2, 5, 3);
        assert_eq!(drawing.texts_in(rect)[0].text, text, "{metric:?}");
        assert_eq!(drawing.texts_saying(label).len(), 1, "{metric:?}");
    }
}

#[test]
fn rows_may_be_others_fewer_or_more() {
    let mut records = fixture();
    let mut third = records.clone();
    third.retain(|record| record.method == "fused");
    records.extend(third.into_iter().map(|record| Record { method: "gemm-three-calls".into(), ..record }));
    for rows in [&["gemm-three-calls"][..], &["fused", "unfused"], &["gemm-three-calls", "unfused", "fused"]]
    {
        let figure = figure(rows, records.clone());
        assert_eq!(figure.rows.iter().map(|row| row.label.as_str()).collect::<Vec<_>>(), rows);
        let drawing = Drawing::of(&figure);
        assert_eq!(drawing.rows.len(), rows.len());
        assert_eq!(drawing.cells.len(), 72 * rows.len());
        for (above, below) in rows.iter().zip(&rows[1..]) {
            assert!(drawing.texts_saying(above)[0].at.1 < drawing.texts_saying(below)[0].at.1);
        }
    }
}

/// Geometry, titles, axes and colour bar are those of every figure above; the layer's has other labels.
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
fn all_rows_make_one_tall_sheet() {
    let sheet = draw(&[], layer_fixture());
    assert_eq!(sheet.rows.len(), 4);
    assert_eq!(sheet.polygons.len(), 1, "LoRA on all projections exceeds 35 at r = 250");
    let labels = ["Adapterᴴ r", "Adapterᴸ r", "LoRA unfused r", "LoRA fused r"];
    let ys: Vec<i32> = labels.iter().map(|label| sheet.texts_saying(label)[0].at.1).collect();
    assert!(ys.is_sorted(), "top to bottom: {ys:?}");
    assert_eq!(sheet.texts.iter().filter(|text| text.text.starts_with("Seq Len")).count(), 3);
}

#[test]
fn no_two_texts_overlap() {
    for rows in [&[][..], &ADAPTERS, &LORA, &["lora-fused"]] {
        draw(rows, layer_fixture()).check_texts();
    }
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the numbers are, each cell shows its own or is hatched, and the arrow says whether one
    /// exceeds.
    #[test]
    fn any_numbers_are_drawn(
        values in proptest::collection::vec(proptest::option::of(-1e6..1e6f64), 144),
        vmax in prop_oneof![0.1..100.0f64, Just(35.0)],
    ) {
        let numbers: Vec<f64> = values.iter().copied().flatten().collect();
        let row = |row: usize| {
            let numbers = grid().zip(&values[72 * row..]).filter_map(|(cell, value)| Some((cell, (*value)?)));
            FigureRow { label: METHODS[row].to_owned(), values: numbers.collect::<HashMap<Cell, f64>>() }
        };
        let selection = select(&[], fixture());
        let mut figure = Figure::new(&selection, Metric::Slowdown, Vmax::Fixed(vmax), Colormap::Grey);
        (figure.rows, figure.footer) = (vec![row(0), row(1)], vec![]);
        figure.scale = Scale::new(Metric::Slowdown, &numbers, Vmax::Fixed(vmax));
        let drawing = Drawing::of(&figure);
        prop_assert_eq!(drawing.polygons.len() == 1, numbers.iter().any(|value| *value > vmax));
        let cells = (0..2).flat_map(|row| drawing.row(row).map(move |cell| (row, cell)));
        for (row, (cell, _, fill, texts)) in cells {
            let texts: Vec<&str> = texts.iter().map(|text| text.text.as_str()).collect();
            match figure.rows[row].values.get(&cell) {
                None => prop_assert_eq!((fill, texts), ("#ECECEC", vec![])),
                Some(value) => {
                    let Rgb(level, ..) = Colormap::Grey.at(value / vmax);
                    prop_assert_eq!(fill, Rgb(level, level, level).to_string());
                    prop_assert_eq!(texts, vec![figure.scale.format(*value)]);
                }
            }
        }
    }
}

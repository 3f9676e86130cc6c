//! The figure of few tokens: what it selects, where it draws it, and its command.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;
use std::{fs, iter};

use common::{Drawing, Rect, Text, fixture, query};
use fused_lora_heatmap::{
    Colormap, DecodeFigure, DecodeSelection, Error, Metric, Query, Vmax, draw_decode_svg, png_from_svg,
};
use fused_lora_records::{Clock, Record, to_csv};

const TOKENS: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
const RANKS: [usize; 5] = [10, 16, 64, 100, 250];
const WORKLOADS: [(&str, usize, usize); 3] =
    [("linear-1024x1024", 1024, 1024), ("linear-4096x4096", 4096, 4096), ("linear-4096x11008", 4096, 11008)];
const DTYPES: [&str; 3] = ["f16", "bf16", "f32"];
/// Peers of each type, and their time over that of the base.
const PEERS: [(&str, &str, f64); 5] = [
    ("f16", "gemmkit-f16-packed/base", 1.2),
    ("f16", "torch-fp16/base", 3.0),
    ("bf16", "torch-bf16/base", 1.1),
    ("f32", "torch-fp32/base", 0.95),
    ("f32", "gemm-f32/base", 1.4),
];

/// A record of one token of each of `batch` sequences, made up: the base takes 1.1 to 1.6 times the limit,
/// and an adapter costs a little more than its floor.
fn record(
    (workload, k, n): (&str, usize, usize),
    dtype: &str,
    method: &str,
    batch: usize,
    rank: usize,
    factor: f64,
) -> Record {
    let (area, rows) = ((k * n + rank * (k + n)) as f64, (batch * (k + n)) as f64);
    let size = if dtype == "f32" { 4.0 } else { 2.0 };
    let limit_ns = (size * (area + rows) / 33.0).max(2.0 * batch as f64 * area / 232.0).round();
    let floor = 100.0 * (rank as f64 / n as f64 + rank as f64 / k as f64);
    // Another number in each cell.
    let own = (batch * 7 + rank * 3 + k / 1024 + n / 512) % 13;
    let time_ns = (limit_ns * factor * (1.1 + 0.5 / (batch as f64).sqrt() + 0.002 * own as f64)).round();
    let slowdown = (method == "fused").then(|| ((1.05 * floor + 1.0 + 0.1 * own as f64) * 1e3).round() / 1e3);
    Record {
        run: "made-up".into(),
        workload: workload.into(),
        backend: "cpu".into(),
        device: "fixture".into(),
        threads: Some(2),
        simd: if dtype == "bf16" { "avx512bf16" } else { "avx512" }.into(),
        dtype: dtype.into(),
        method: method.into(),
        d_in: k.to_string(),
        d_out: n.to_string(),
        seq_len: 1,
        batch,
        rank,
        time_ns,
        time_lo_ns: Some((time_ns * 0.98).round()),
        time_hi_ns: Some((time_ns * 1.03).round()),
        slowdown_pct: slowdown,
        slowdown_lo_pct: slowdown.map(|slowdown| slowdown - 0.5),
        slowdown_hi_pct: slowdown.map(|slowdown| slowdown + 0.5),
        floor_pct: Some(floor),
        limit_ns: Some(limit_ns),
        gflops: Some(2.0 * batch as f64 * area / time_ns),
        ratio_by: Clock::Wall,
        ..TEMPLATE.clone()
    }
}

static TEMPLATE: LazyLock<Record> = LazyLock::new(|| fixture()[0].clone());

/// Everything that the bench measures: base and fused at each rank, of every workload and type, and peers.
fn records() -> Vec<Record> {
    let mut records = Vec::new();
    for (workload, dtype) in WORKLOADS.iter().flat_map(|workload| DTYPES.map(|dtype| (*workload, dtype))) {
        for batch in TOKENS {
            records.push(record(workload, dtype, "base", batch, 0, 1.0));
            records.extend(RANKS.map(|rank| record(workload, dtype, "fused", batch, rank, 1.02)));
            let peers = PEERS.iter().filter(|peer| peer.0 == dtype);
            records.extend(peers.map(|(_, name, factor)| record(workload, dtype, name, batch, 0, *factor)));
        }
    }
    records
}

fn select(query: &Query, records: Vec<Record>) -> DecodeSelection {
    query.select_decode(records, Metric::OverLimit).unwrap()
}

fn figure(records: Vec<Record>, metric: Metric) -> DecodeFigure {
    let selection = Query::default().select_decode(records, metric).unwrap();
    DecodeFigure::new(&selection, None, Colormap::Rocket)
}

fn draw(records: Vec<Record>, metric: Metric) -> Drawing {
    Drawing::parse(&draw_decode_svg(&figure(records, metric)).unwrap())
}

/// The frame of a panel, and what the marks beside it say: pixels of log2(M) and of the numbers.
struct Axes {
    frame: Rect,
    x: BTreeMap<usize, i32>,
    /// Offset and slope of y.
    y: (f64, f64),
    title: String,
    dtype: String,
}

impl Axes {
    fn at(&self, tokens: usize, value: f64) -> (i32, i32) {
        (self.x[&tokens], (self.y.0 + self.y.1 * value).round() as i32)
    }

    fn top(&self) -> f64 {
        (f64::from(self.frame.y) - self.y.0) / self.y.1
    }
}

/// The panels, row by row, read off the frames and texts.
fn panels(drawing: &Drawing) -> Vec<Axes> {
    let is_frame = |points: &&Vec<(i32, i32)>| points.len() == 5 && points[0] == points[4];
    let mut frames: Vec<Rect> = drawing
        .polylines
        .iter()
        .filter(is_frame)
        .map(|p| Rect { x: p[0].0, y: p[0].1, width: p[2].0 - p[0].0, height: p[2].1 - p[0].1 })
        .collect();
    frames.sort_by_key(|frame| (frame.y, frame.x));
    let axes = |frame: Rect| {
        let Rect { x, y, width, height } = frame;
        let ys: Vec<(f64, i32)> = drawing
            .texts
            .iter()
            .filter(|t| {
                t.anchor == "end" && (x - 12..x).contains(&t.at.0) && (y..=y + height).contains(&t.at.1)
            })
            .map(|text| (text.text.parse().unwrap(), text.at.1))
            .collect();
        assert!(ys.len() >= 4, "{ys:?}");
        let (first, last) = (ys[0], ys[ys.len() - 1]);
        let slope = f64::from(last.1 - first.1) / (last.0 - first.0);
        let below = y + height;
        let xs = drawing.texts.iter().filter(|text| (below..below + 24).contains(&text.at.1));
        let xs = xs.filter(|text| (x..x + width).contains(&text.at.0) && !text.upwards);
        let title =
            |text: &&Text| text.size > 18.0 && !text.upwards && (text.at.0 - x - width / 2).abs() <= 1;
        let dtype =
            |text: &&Text| text.size > 18.0 && text.upwards && (text.at.1 - y - height / 2).abs() <= 1;
        let one = |found: Vec<&Text>| {
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].text.clone()
        };
        Axes {
            frame,
            x: xs.map(|text| (text.text.parse().unwrap(), text.at.0)).collect(),
            y: (f64::from(first.1) - slope * first.0, slope),
            title: one(drawing.texts.iter().filter(title).collect()),
            dtype: one(drawing.texts.iter().filter(dtype).collect()),
        }
    };
    frames.into_iter().map(axes).collect()
}

/// Each entry of the legend: the colour, radius and stroke width of its sample. What has no point has radius
/// 0.
fn legend(drawing: &Drawing) -> BTreeMap<String, (String, i32, i32)> {
    let top = panels(drawing)[0].frame.y - 60;
    let entries = drawing.texts.iter().filter(|text| text.at.1 < top);
    let entry = |text: &Text| {
        let (x, y) = text.at;
        let is_sample = |points: &[(i32, i32)]| points.iter().all(|p| p.1 == y && (x - 50..x).contains(&p.0));
        let samples = drawing.polylines.iter().zip(&drawing.strokes).filter(|(points, _)| is_sample(points));
        let strokes: BTreeSet<&(String, i32)> = samples.map(|(_, stroke)| stroke).collect();
        assert_eq!(strokes.len(), 1, "{} has one sample", text.text);
        let (colour, width) = strokes.first().unwrap();
        let point = drawing.circles.iter().find(|((cx, cy), _, _)| *cy == y && (x - 50..x).contains(cx));
        let radius = point.map_or(0, |(_, radius, fill)| {
            assert_eq!(fill, colour);
            *radius
        });
        (text.text.clone(), (colour.clone(), radius, *width))
    };
    entries.map(entry).collect()
}

/// The legend's word for a record.
fn label(record: &Record) -> String {
    match record.method.split(['/', '-']).next().unwrap() {
        "base" => "base".to_owned(),
        "fused" | "clones" => format!("{}, r = {}", record.method, record.rank),
        _ if record.method.ends_with("/peft") => format!("torch/peft, r = {}", record.rank),
        "gemmkit" => "gemmkit-packed".to_owned(),
        peer => peer.to_owned(),
    }
}

/// Every number of the records stands in its panel, over its number of tokens, at its height, in the colour
/// of its line; what is above the axis does not. Returns how many are drawn and how many are not.
fn check(drawing: &Drawing, records: &[Record], value: fn(&Record) -> Option<f64>) -> (usize, usize) {
    let legend = legend(drawing);
    let (mut drawn, mut above) = (0, 0);
    for axes in panels(drawing) {
        let row = |record: &Record| match axes.dtype.split_once(", ") {
            None => {
                let mixes = record.method == "clones" || record.method.ends_with("/peft");
                record.dtype == axes.dtype && record.adapters == 1 && !mixes
            }
            Some((dtype, adapters)) => {
                assert_eq!(adapters, "8 adapters");
                // As many as there are tokens.
                let mixes = record.rank > 0 && record.adapters == record.batch.min(8);
                record.dtype == dtype && (record.method == "base" || mixes)
            }
        };
        let here = |record: &&Record| record.workload == axes.title && row(record);
        for record in records.iter().filter(here) {
            let Some(value) = value(record) else { continue };
            let (colour, radius, _) = &legend[&label(record)];
            let (x, y) = axes.at(record.batch, value);
            let is_it = |((cx, cy), r, fill): &&((i32, i32), i32, String)| {
                (*cx - x).abs() <= 1 && (*cy - y).abs() <= 1 && r == radius && fill == colour
            };
            let found = drawing.circles.iter().any(|circle| is_it(&circle));
            assert_eq!(
                found,
                value <= axes.top(),
                "{} at {} of {}",
                record.method,
                record.cell(),
                axes.title
            );
            *if found { &mut drawn } else { &mut above } += 1;
        }
    }
    let circles: Vec<_> = drawing.circles.iter().filter(|circle| circle.2 != "#FFFFFF").collect();
    let samples = legend.values().filter(|(_, radius, _)| *radius > 0).count();
    assert_eq!(circles.len(), drawn + samples, "and nothing else");
    let triangles: BTreeSet<&Vec<(i32, i32)>> = drawing.corners.iter().collect();
    assert_eq!(triangles.len(), above, "a triangle of its own for each number above its axis");
    let frames: Vec<Rect> = panels(drawing).into_iter().map(|axes| axes.frame).collect();
    let is_inside = |corner: &(i32, i32)| frames.iter().any(|frame| frame.holds(*corner));
    assert!(triangles.into_iter().flatten().all(is_inside));
    (drawn, above)
}

/// What a run of eight adapters measures, of two types of one workload, later than the others.
fn mix() -> Vec<Record> {
    let mut records = Vec::new();
    for (dtype, batch) in ["f16", "bf16"].into_iter().flat_map(|dtype| TOKENS.map(|batch| (dtype, batch))) {
        let mut put = |method: &str, rank, factor| {
            let mut record = record(WORKLOADS[1], dtype, method, batch, rank, factor);
            record.run = "mix".into();
            record.adapters = if rank == 0 { 1 } else { batch.min(8) };
            record.measured_at = "2026-03-01T00:00:00Z".parse().unwrap();
            // That of 16 bits is not known.
            record.limit_ns = record.limit_ns.filter(|_| !method.starts_with("torch"));
            records.push(record);
        };
        put("base", 0, 1.0);
        for rank in RANKS {
            put("fused", rank, 1.03);
            put("clones", rank, 1.2);
            put(if dtype == "f16" { "torch-fp16/peft" } else { "torch-bf16/peft" }, rank, 1.5);
        }
    }
    records
}

fn over_limit(record: &Record) -> Option<f64> {
    Some(record.time_ns / record.limit_ns?)
}

#[test]
fn every_number_stands_at_its_place_in_its_colour() {
    let drawing = draw(records(), Metric::OverLimit);
    let (drawn, above) = check(&drawing, &records(), over_limit);
    assert_eq!(drawn + above, records().len());
    assert!(above > 0 && above <= 36, "PyTorch's f16 runs up: {above}");
    let places: Vec<(String, String)> =
        panels(&drawing).into_iter().map(|axes| (axes.dtype, axes.title)).collect();
    let expected = DTYPES.iter().flat_map(|dtype| WORKLOADS.map(|(name, ..)| ((*dtype).into(), name.into())));
    assert_eq!(places, expected.collect::<Vec<_>>(), "types down, workloads to the right");
    let entries: BTreeSet<String> = legend(&drawing).into_keys().collect();
    let fused = RANKS.map(|rank| format!("fused, r = {rank}"));
    let others = ["limit", "base", "gemm", "gemmkit-packed", "torch"].map(str::to_owned);
    assert_eq!(entries, fused.into_iter().chain(others).collect());
    let words = drawing.words();
    for text in ["time / limit", "tokens M, one per sequence"] {
        assert_eq!(drawing.texts_saying(text).len(), 3, "{words}");
    }
    for text in
        ["cpu · fixture · 2 threads · avx512 or avx512bf16", "cold caches · commit unknown · 2026-01-01"]
    {
        assert!(words.contains(text), "{words}");
    }
    assert!(words.contains("bars: 95 % intervals") && words.contains("limit: the larger of"), "{words}");
}

/// Below the others, with the peers that compute the same batches; each panel has its base, and one token of
/// a mix is what it is without.
#[test]
fn a_mix_of_adapters_has_rows_of_its_own() {
    let all = [records(), mix()].concat();
    let selection = select(&Query::default(), all.clone());
    assert_eq!((selection.stem.as_str(), &*selection.adapters), ("decode-cpu", &[1, 8][..]));
    // Base, fused of 5 ranks, 2 peers at one; one token of fused is the other run's, too.
    assert_eq!(runs(&selection)["mix"], 2 * 12 * (1 + 5 + 2));
    let figure = DecodeFigure::new(&selection, None, Colormap::Rocket);
    assert_eq!(figure.missing(), []);
    let drawing = Drawing::parse(&draw_decode_svg(&figure).unwrap());
    drawing.check_texts();
    let mut drawn = selection.records;
    for record in drawn.iter_mut().filter(|record| record.limit_ns.is_none()) {
        record.limit_ns =
            self::record(WORKLOADS[1], &record.dtype, "fused", record.batch, record.rank, 1.0).limit_ns;
    }
    let (here, above) = check(&drawing, &drawn, over_limit);
    // In both rows are base, and fused at one token.
    assert_eq!(here + above, drawn.len() + 2 * (12 + 5));
    let rows: Vec<String> = panels(&drawing).into_iter().map(|axes| axes.dtype).collect();
    let mixed = ["f16, 8 adapters", "bf16, 8 adapters"];
    assert_eq!(rows.iter().filter(|row| row.contains(',')).collect::<Vec<_>>(), mixed);
    assert_eq!(drawing.texts_saying("not measured").len(), 4);

    // Either of them alone; a mix alone has no row without.
    let adapters = |adapters, records| select(&Query { adapters, ..Query::default() }, records);
    let [one, eight] = [1, 8].map(|number| adapters(Some(number), all.clone()));
    assert_eq!(
        (one.records.len(), &*one.adapters, &*one.left_out),
        (records().len(), &[1][..], &["adapters 8".to_owned()][..])
    );
    assert_eq!(
        (eight.stem.as_str(), &*eight.left_out),
        ("decode-cpu-8adapters", &["adapters 1".to_owned()][..])
    );
    assert_eq!(eight.records.len(), 2 * 12 * (1 + 5 + 2));
    let only = draw_decode_svg(&DecodeFigure::new(&eight, None, Colormap::Rocket)).unwrap();
    assert!(panels(&Drawing::parse(&only)).iter().all(|axes| axes.dtype.ends_with("8 adapters")));
    assert_eq!(adapters(None, mix()).adapters, [8]);
    assert_eq!(DecodeFigure::new(&adapters(None, mix()), None, Colormap::Rocket).missing(), []);
    let refused = Query { adapters: Some(4), ..Query::default() }.select_decode(all, Metric::OverLimit);
    assert_eq!(refused.unwrap_err().to_string(), "no record has adapters '4'; there are 1, 8");

    // Of slow-downs those over this library's base.
    let slower: Vec<Record> = mix().into_iter().map(|r| Record { slowdown_pct: Some(3.0), ..r }).collect();
    let selection = Query::default().select_decode(slower, Metric::Slowdown).unwrap();
    let methods: BTreeSet<&str> = selection.records.iter().map(|record| record.method.as_str()).collect();
    assert_eq!(methods, BTreeSet::from(["fused", "clones"]));
}

#[test]
fn tokens_are_on_a_logarithmic_scale() {
    let drawing = draw(records(), Metric::OverLimit);
    for axes in panels(&drawing) {
        assert_eq!(axes.x.keys().copied().collect::<Vec<_>>(), TOKENS, "each has its mark");
        let (first, last) = (f64::from(axes.x[&1]), f64::from(axes.x[&64]));
        assert!(first > f64::from(axes.frame.x) && last < f64::from(axes.frame.x + axes.frame.width));
        for tokens in TOKENS {
            let expected = first + (tokens as f64).log2() / 6.0 * (last - first);
            assert!((f64::from(axes.x[&tokens]) - expected).abs() <= 0.51, "{tokens}");
        }
    }
}

#[test]
fn the_limit_is_a_line_across_every_panel() {
    let drawing = draw(records(), Metric::OverLimit);
    for axes in panels(&drawing) {
        let (_, y) = axes.at(1, 1.0);
        let (left, right) = (axes.frame.x, axes.frame.x + axes.frame.width);
        assert!(drawing.polylines.iter().any(|points| *points == [(left, y), (right, y)]), "{}", axes.title);
    }
}

/// The points of a line, in order, are those of one polyline; intervals are bars from end to end.
#[test]
fn lines_join_their_numbers_and_bars_show_their_intervals() {
    let drawing = draw(records(), Metric::OverLimit);
    let legend = legend(&drawing);
    let close = |a: (i32, i32), b: (i32, i32)| (a.0 - b.0).abs() <= 1 && (a.1 - b.1).abs() <= 1;
    for axes in panels(&drawing) {
        for rank in iter::once(0).chain(RANKS) {
            let own = |record: &&Record| {
                let here = (record.workload.as_str(), record.dtype.as_str()) == (&axes.title, &axes.dtype);
                here && record.rank == rank && ["base", "fused"].contains(&record.method.as_str())
            };
            let all = records();
            let own: Vec<&Record> = all.iter().filter(own).collect();
            let (colour, _, width) = &legend[&label(own[0])];
            assert_eq!(*width, 2);
            let expected: Vec<_> =
                own.iter().map(|record| axes.at(record.batch, over_limit(record).unwrap())).collect();
            let has = |expected: &[(i32, i32)], stroke: (&str, i32)| {
                drawing.polylines.iter().zip(&drawing.strokes).any(|(points, (colour, width))| {
                    (colour.as_str(), *width) == stroke
                        && points.len() == expected.len()
                        && points.iter().zip(expected).all(|(a, b)| close(*a, *b))
                })
            };
            assert!(has(&expected, (colour, 2)), "r = {rank} of {} in {}", axes.title, axes.dtype);
            for record in own {
                let end = |time: Option<f64>| axes.at(record.batch, time.unwrap() / record.limit_ns.unwrap());
                let bar = [end(record.time_lo_ns), end(record.time_hi_ns)];
                assert!(has(&bar, (colour, 1)), "{} of {}: {bar:?}", record.cell(), axes.title);
            }
        }
    }
}

/// Ranks go from dark to light; peers are thin and broken.
#[test]
fn colours_tell_ranks_and_peers_apart() {
    let drawing = draw(records(), Metric::OverLimit);
    let legend = legend(&drawing);
    let luminance = |label: &str| {
        let colour = u32::from_str_radix(&legend[label].0[1..], 16).unwrap();
        let [_, r, g, b] = colour.to_be_bytes();
        fused_lora_heatmap::Rgb(r, g, b).luminance()
    };
    let mut levels = vec![luminance("base")];
    levels.extend(RANKS.map(|rank| luminance(&format!("fused, r = {rank}"))));
    assert!(levels.windows(2).all(|pair| pair[1] > pair[0] + 0.008), "{levels:?}");
    // WCAG asks 3 of graphics; the lightest rank comes near.
    assert!(1.05 / (levels[5] + 0.05) > 2.1, "{levels:?}");
    let colours: BTreeSet<&String> = legend.values().map(|entry| &entry.0).collect();
    assert_eq!(colours.len(), legend.len());
    for peer in ["gemm", "gemmkit-packed", "torch"] {
        let (colour, radius, width) = &legend[peer];
        assert_eq!((*radius, *width), (2, 1), "{peer}");
        let dashes = drawing.strokes.iter().filter(|stroke| stroke.0 == *colour).count();
        assert!(dashes > 100, "{peer} is broken: {dashes}");
    }
}

#[test]
fn peers_take_half_of_a_panel_and_are_named_where_they_run_higher() {
    let mut records = records();
    let slow = |record: &mut Record| {
        for time in [Some(&mut record.time_ns), record.time_lo_ns.as_mut(), record.time_hi_ns.as_mut()] {
            *time.unwrap() *= 20.0;
        }
    };
    records.iter_mut().filter(|record| record.method.starts_with("gemmkit")).for_each(slow);
    let drawing = draw(records.clone(), Metric::OverLimit);
    check(&drawing, &records, over_limit);
    let largest = |prefix: &str| {
        let of = records.iter().filter(|record| record.method.starts_with(prefix)).filter_map(over_limit);
        of.fold(0.0, f64::max)
    };
    let axes = &panels(&drawing)[0];
    let own = records.iter().filter(|record| ["base", "fused"].contains(&record.method.as_str()));
    let own = own.map(|record| record.time_hi_ns.unwrap() / record.limit_ns.unwrap()).fold(0.0, f64::max);
    assert!((1.9..2.6).contains(&((axes.top() - 1.0) / (own - 1.0))), "{} over {own}", axes.top());
    let note = format!(
        "triangles, above the axis: gemmkit-packed up to {:.2} · torch up to {:.2}",
        largest("gemmkit"),
        largest("torch")
    );
    assert!(drawing.words().contains(&note), "{}", drawing.words());
    let all =
        DecodeFigure::new(&select(&Query::default(), records.clone()), Some(Vmax::Auto), Colormap::Rocket);
    let all = Drawing::parse(&draw_decode_svg(&all).unwrap());
    assert_eq!(check(&all, &records, over_limit), (records.len(), 0));
    let low = DecodeFigure::new(
        &select(&Query::default(), records.clone()),
        Some(Vmax::Fixed(1.3)),
        Colormap::Rocket,
    );
    let low = Drawing::parse(&draw_decode_svg(&low).unwrap());
    assert!((panels(&low)[0].top() - 1.3).abs() < 0.01);
    let (drawn, above) = check(&low, &records, over_limit);
    assert!(drawn > 100 && above > 100, "{drawn} and {above}");
    // Nothing is drawn above the frames.
    let frames: Vec<Rect> = panels(&low).iter().map(|axes| axes.frame).collect();
    for points in low.polylines.iter().filter(|points| points[0].1 >= frames[0].y - 10) {
        let inside = |frame: &Rect| points.iter().all(|point| frame.holds(*point));
        assert!(frames.iter().any(inside), "{points:?}");
    }
}

#[test]
fn slow_downs_have_their_floors_and_a_scale_per_workload() {
    let drawing = draw(records(), Metric::Slowdown);
    let fused: Vec<Record> = records().into_iter().filter(|record| record.method == "fused").collect();
    assert_eq!(check(&drawing, &fused, |record| record.slowdown_pct), (fused.len(), 0));
    let entries: BTreeSet<String> = legend(&drawing).into_keys().collect();
    let expected = RANKS.map(|rank| format!("fused, r = {rank}")).into_iter();
    assert_eq!(entries, expected.chain(["base".to_owned(), "floor".to_owned()]).collect());
    assert_eq!(drawing.texts_saying("slow-down vs r = 0 (%)").len(), 3);
    assert!(drawing.words().contains("floor: the adapter's arithmetic alone"), "{}", drawing.words());
    let legend = legend(&drawing);
    let panels = panels(&drawing);
    let tops: Vec<i64> = panels.iter().map(|axes| axes.top().round() as i64).collect();
    assert_eq!(tops[..3], tops[3..6]);
    assert!(tops[0] > 50 && tops[1] < 20 && tops[2] < tops[1], "{tops:?}");
    for axes in &panels {
        for record in fused.iter().filter(|r| r.workload == axes.title && r.dtype == axes.dtype) {
            let (_, y) = axes.at(1, record.floor_pct.unwrap());
            let (colour, ..) = &legend[&label(record)];
            let dashes = drawing.polylines.iter().zip(&drawing.strokes).filter(|(points, stroke)| {
                stroke.0 == *colour && points.iter().all(|p| axes.frame.holds(*p) && (p.1 - y).abs() <= 1)
            });
            assert!(dashes.count() > 40, "floor of r = {} in {}", record.rank, axes.title);
        }
    }
    // CPU times are named as in the other figure.
    let by_cpu = |record| Record { ratio_by: Clock::Cpu, ..record };
    let words = draw(records().into_iter().map(by_cpu).collect(), Metric::Slowdown).words();
    assert!(words.contains(&format!("ratios of CPU time in {} cells", fused.len())), "{words}");
}

/// The records of PyTorch in 16 bits have no limit: it may compute with other instructions.
#[test]
fn a_peer_without_a_limit_stands_over_the_bases() {
    let note = "of a peer that has none, this library's";
    assert!(!draw(records(), Metric::OverLimit).words().contains(note));
    let mut records = records();
    let limits: Vec<Option<f64>> = records.iter().map(|record| record.limit_ns).collect();
    for record in records.iter_mut().filter(|record| record.method.starts_with("torch")) {
        record.limit_ns = None;
    }
    let figure = figure(records.clone(), Metric::OverLimit);
    assert_eq!(figure.missing(), []);
    // The base's is not that of a layer with an adapter.
    let mut fused = records.clone();
    fused.iter_mut().find(|record| record.method == "fused").unwrap().limit_ns = None;
    assert_eq!(self::figure(fused, Metric::OverLimit).missing().len(), 1);
    let alone = select(&query(&["torch-bf16/base"]), records.clone());
    assert_eq!(DecodeFigure::new(&alone, None, Colormap::Rocket).missing(), []);
    let drawing = Drawing::parse(&draw_decode_svg(&figure).unwrap());
    for (record, limit) in records.iter_mut().zip(limits) {
        record.limit_ns = limit;
    }
    let (drawn, above) = check(&drawing, &records, over_limit);
    assert_eq!(drawn + above, records.len());
    assert!(drawing.words().contains(note), "{}", drawing.words());
    // That limit is in no record.
    let bare: Vec<Record> = records.into_iter().map(|r| Record { limit_ns: None, ..r }).collect();
    assert!(
        Query::default()
            .select_decode(bare, Metric::Time)
            .unwrap()
            .records
            .iter()
            .all(|r| r.limit_ns.is_none())
    );
}

#[test]
fn a_floor_above_all_numbers_is_drawn_too() {
    let mut records = records();
    for record in &mut records {
        record.floor_pct = record.floor_pct.map(|floor| 3.0 * floor + 10.0);
    }
    let drawing = draw(records.clone(), Metric::Slowdown);
    for axes in panels(&drawing) {
        let here = |record: &&Record| record.workload == axes.title && record.rank > 0;
        let floors = records.iter().filter(here).filter_map(|record| record.floor_pct);
        assert!(floors.fold(0.0, f64::max) < axes.top(), "{}", axes.title);
    }
}

/// So that a height means the same everywhere, unless it is a workload's own.
#[test]
fn all_panels_have_the_same_limit() {
    let mut records = records();
    for record in records.iter_mut().filter(|record| record.workload == "linear-4096x4096") {
        record.time_hi_ns = record.time_hi_ns.map(|time| 1.5 * time);
        record.time_ns *= 1.5;
    }
    let tops = |metric| -> BTreeSet<i64> {
        let drawing = draw(records.clone(), metric);
        panels(&drawing).iter().map(|axes| (100.0 * axes.top()).round() as i64).collect()
    };
    assert_eq!((tops(Metric::OverLimit).len(), tops(Metric::Time).len()), (1, 3));
}

#[test]
fn every_metric_can_be_drawn() {
    let value = |metric: Metric| -> fn(&Record) -> Option<f64> {
        match metric {
            Metric::Time => |record| Some(record.time_ns / 1e6),
            Metric::Gflops => |record| record.gflops,
            Metric::OverFloor => |record| Some(record.slowdown_pct? - record.floor_pct?),
            other => panic!("{other:?}"),
        }
    };
    for (metric, text) in [
        (Metric::Time, "time of a forward pass (ms)"),
        (Metric::Gflops, "useful GFLOP/s"),
        (Metric::OverFloor, "slow-down over the floor (points)"),
    ] {
        let drawing = draw(records(), metric);
        check(&drawing, &records(), value(metric));
        assert_eq!(drawing.texts_saying(text).len(), 3, "{metric:?}");
        drawing.check_texts();
        // Times and rates begin at 0; what may be below has room.
        for axes in panels(&drawing) {
            let above = axes.frame.y + axes.frame.height - axes.at(1, 0.0).1;
            assert_eq!(above == 0, metric != Metric::OverFloor, "{metric:?}: {above}");
        }
    }
}

#[test]
fn missing_points_are_left_out_of_their_line_and_named() {
    let mut records = records();
    let is_missing = |record: &Record| {
        let of = (record.workload.as_str(), record.dtype.as_str());
        let cell = (record.method.as_str(), record.batch, record.rank);
        of == ("linear-4096x4096", "bf16") && cell == ("fused", 4, 16)
            || of == ("linear-1024x1024", "f32") && cell.0 == "fused" && cell.2 == 100
            || record.method == "torch-fp16/base" && record.workload == "linear-1024x1024"
            || record.method == "gemm-f32/base" && record.batch == 64 && of.0 == "linear-4096x11008"
    };
    records.retain(|record| !is_missing(record));
    // Without a limit there is no number.
    let bare = records.iter_mut().find(|r| r.method == "base" && r.batch == 48 && r.dtype == "bf16").unwrap();
    bare.limit_ns = None;
    let figure = figure(records.clone(), Metric::OverLimit);
    let missing: Vec<String> = figure.missing().iter().map(|(line, at)| format!("{line} at {at}")).collect();
    let mut expected = vec!["base at seq1/batch48/r0 of linear-1024x1024 in bf16".to_owned()];
    expected.extend(TOKENS.map(|m| format!("fused at seq1/batch{m}/r100 of linear-1024x1024 in f32")));
    expected.push("fused at seq1/batch4/r16 of linear-4096x4096 in bf16".to_owned());
    expected.push("gemm at seq1/batch64/r0 of linear-4096x11008 in f32".to_owned());
    assert_eq!(missing, expected, "a peer is not missed where it was not measured at all");
    let drawing = Drawing::parse(&draw_decode_svg(&figure).unwrap());
    check(&drawing, &records, over_limit);
    assert!(drawing.words().contains("15 points not measured"), "{}", drawing.words());
    // The line goes on over the gap.
    let axes = panels(&drawing)
        .into_iter()
        .find(|a| (a.title.as_str(), a.dtype.as_str()) == ("linear-4096x4096", "bf16"));
    let (axes, colour) = (axes.unwrap(), &legend(&drawing)["fused, r = 16"].0);
    let own = drawing.polylines.iter().zip(&drawing.strokes).filter(|(points, stroke)| {
        **stroke == (colour.clone(), 2) && points.iter().all(|point| axes.frame.holds(*point))
    });
    let lengths: Vec<usize> = own.map(|(points, _)| points.len()).collect();
    assert_eq!(lengths, [11]);
    assert!(!draw(self::records(), Metric::OverLimit).words().contains("not measured"));
}

#[test]
fn only_what_was_measured_has_a_panel() {
    let count = |records: Vec<Record>| {
        let drawing = draw(records, Metric::OverLimit);
        drawing.check_texts();
        let panels = panels(&drawing);
        let of = |of: fn(&Axes) -> &String| panels.iter().map(of).collect::<BTreeSet<_>>().len();
        (
            of(|axes| &axes.title),
            of(|axes| &axes.dtype),
            panels.len(),
            drawing.texts_saying("not measured").len(),
        )
    };
    let only = |keep: fn(&Record) -> bool| records().into_iter().filter(keep).collect::<Vec<_>>();
    assert_eq!(count(only(|record| record.dtype == "bf16")), (3, 1, 3, 0));
    assert_eq!(count(only(|record| record.workload == "linear-4096x4096")), (1, 3, 3, 0));
    assert_eq!(count(only(|r| r.workload == "linear-4096x4096" && r.dtype == "f16")), (1, 1, 1, 0));
    assert_eq!(count(only(|r| r.dtype != "f32" || r.workload == "linear-1024x1024")), (3, 3, 7, 2));
    assert_eq!(count(only(|r| r.dtype != "f16" || r.workload != "linear-1024x1024")), (3, 3, 8, 1));
    // One number of tokens, and one line.
    assert_eq!(count(only(|record| record.batch == 8 && record.rank == 0)), (3, 3, 9, 0));
}

#[test]
fn texts_keep_apart_whatever_they_say() {
    // A measurement of so many numbers of tokens has no room for all of them.
    let more = (5..=60).map(|batch| record(WORKLOADS[0], "f16", "base", batch, 0, 1.0));
    let more = more.filter(|record| !TOKENS.contains(&record.batch));
    let mut records: Vec<Record> = records().into_iter().chain(more).collect();
    for record in &mut records {
        record.device = format!("A device with a name {}", "that goes on and on ".repeat(30));
        if record.method.starts_with("gemm-") {
            record.method = "a-peer-with-a-name-that-is-far-too-long-for-the-legend".into();
        }
    }
    for metric in [Metric::OverLimit, Metric::Slowdown] {
        draw(records.clone(), metric).check_texts();
        draw(self::records(), metric).check_texts();
    }
    let drawing = draw(records, Metric::OverLimit);
    assert!(drawing.words().contains("a-peer-with-a-name-that-is-"), "{}", drawing.words());
    assert!(panels(&drawing)[0].x.len() < 40);
    // One long name does not take a whole line of the legend for each.
    let first = drawing.texts_saying("limit")[0].at.1;
    assert_eq!(drawing.texts.iter().filter(|text| text.at.1 == first).count(), 3);
}

#[test]
fn other_records_and_other_ranks_of_peers_are_not_drawn() {
    let usual = select(&Query::default(), records());
    assert_eq!(usual.records.len(), records().len());
    let mut others = fixture();
    for (method, rank) in [
        ("fused", 0),
        ("unfused", 0),
        ("unfused", 16),
        ("fused-lora/base", 0),
        ("fused-lora/fused", 16),
        ("torch-bf16/peft", 16),
    ] {
        others.extend(TOKENS.map(|batch| record(WORKLOADS[0], "bf16", method, batch, rank, 1.0)));
    }
    let all = [records(), others.clone()].concat();
    assert_eq!(select(&Query::default(), all.clone()), usual);
    // Those that are named are.
    let named = select(&query(&["base", "unfused", "torch-bf16/peft"]), all.clone());
    let of = |method: &str| named.records.iter().filter(|record| record.method == method).count();
    assert_eq!(["base", "fused", "unfused", "torch-bf16/peft"].map(of), [108, 0, 24, 12]);
    assert_eq!(named.stem, "decode-cpu-base-unfused-torch-bf16-peft");
    let own = select(&query(&["base", "fused"]), all);
    assert_eq!(own.records.len(), 9 * 12 * 6);
    let labels: Vec<String> = legend(&draw(own.records, Metric::OverLimit)).into_keys().collect();
    assert!(!labels.contains(&"fused, r = 0".to_owned()), "{labels:?}");
    // Nor does the other figure show any of these.
    let heatmap = |records| Query::default().select(records, Metric::Slowdown).unwrap();
    assert_eq!(heatmap([fixture(), records()].concat()), heatmap(fixture()));
}

#[test]
fn the_base_is_kept_where_it_is_no_line() {
    let selection = Query::default().select_decode(records(), Metric::Slowdown).unwrap();
    assert_eq!((selection.records.len(), selection.base.len()), (9 * 12 * 5, 9 * 12));
    assert!(selection.records.iter().all(|record| record.method == "fused"));
    assert_eq!(select(&Query::default(), records()).base, []);
}

/// The same measured again, `day` days later.
fn again(day: u32, change: impl Fn(&mut Record)) -> Vec<Record> {
    let mut records = records();
    for record in &mut records {
        record.run = format!("day {day}");
        record.measured_at = format!("2026-02-{day:02}T00:00:00Z").parse().unwrap();
        change(record);
    }
    records
}

fn runs(selection: &DecodeSelection) -> BTreeMap<&str, usize> {
    let mut runs = BTreeMap::new();
    for record in &selection.records {
        *runs.entry(record.run.as_str()).or_default() += 1;
    }
    runs
}

#[test]
fn the_newest_record_of_a_cell_counts() {
    let mut later = again(1, |_| ());
    later.retain(|record| record.batch == 8);
    for records in [[records(), later.clone()].concat(), [later, records()].concat()] {
        let selection = select(&Query::default(), records);
        assert_eq!(selection.records.len(), self::records().len());
        assert!(selection.records.iter().all(|record| (record.run == "day 1") == (record.batch == 8)));
    }
}

#[test]
fn devices_backends_and_caches_are_not_mixed() {
    let mut other = again(1, |record| record.device = "another".into());
    other.retain(|record| record.batch == 8);
    let records = [records(), other].concat();
    let newest = select(&Query::default(), records.clone());
    assert_eq!(runs(&newest), BTreeMap::from([("day 1", 9 * 6 + 15)]));
    assert_eq!(newest.left_out, ["device fixture"]);
    let named = select(&Query { device: Some("fixture".into()), ..Query::default() }, records.clone());
    assert_eq!((named.records.len(), named.left_out), (self::records().len(), vec!["device another".into()]));
    let mixed = select(&Query { mix_devices: true, ..Query::default() }, records);
    assert_eq!(mixed.records.len(), self::records().len());
    assert!(mixed.records.iter().all(|record| (record.device == "another") == (record.batch == 8)));
    let warm = again(2, |record| record.cache = "warm-w".into());
    let both = [self::records(), warm].concat();
    assert_eq!(select(&Query::default(), both.clone()).cache, "cold");
    let selection = select(&Query { cache: Some("warm-w".into()), ..Query::default() }, both);
    assert_eq!((selection.stem.as_str(), runs(&selection).len()), ("decode-cpu-warm-w", 1));
    let cuda = again(3, |record| record.backend = "cuda".into());
    let selection = select(&Query::default(), [self::records(), cuda].concat());
    assert_eq!((selection.stem.as_str(), runs(&selection).len()), ("decode-cuda", 1));
    assert_eq!(selection.left_out, ["backend cpu"]);
}

/// A type has one level; which, its newest record says. A peer's level is its own affair.
#[test]
fn levels_are_not_mixed_within_a_type() {
    let mut portable = again(1, |record| record.simd = "avx2".into());
    portable.retain(|record| record.dtype == "f16" && record.batch >= 8 && !record.method.contains('/'));
    let records = [records(), portable].concat();
    let levels = |selection: &DecodeSelection| -> BTreeSet<(String, String)> {
        let own = selection.records.iter().filter(|record| !record.method.contains('/'));
        own.map(|record| (record.dtype.clone(), record.simd.clone())).collect()
    };
    let set = |of: &[(&str, &str)]| -> BTreeSet<(String, String)> {
        of.iter().map(|(dtype, simd)| ((*dtype).to_owned(), (*simd).to_owned())).collect()
    };
    let newest = select(&Query::default(), records.clone());
    assert_eq!(levels(&newest), set(&[("f16", "avx2"), ("bf16", "avx512bf16"), ("f32", "avx512")]));
    assert_eq!(newest.left_out, ["simd avx512 of f16"]);
    let peers =
        |selection: &DecodeSelection| selection.records.iter().filter(|r| r.method.contains('/')).count();
    assert_eq!(peers(&newest), 3 * 12 * 5);
    let figure = DecodeFigure::new(&newest, None, Colormap::Rocket);
    assert_eq!(figure.missing().len(), 3 * 6 * 5, "what this level lacks is not filled up");
    // The other can still be had, whole.
    let named = select(&Query { simd: Some("avx512".into()), ..Query::default() }, records);
    assert_eq!(levels(&named), set(&[("f16", "avx512"), ("f32", "avx512")]));
    assert_eq!(named.left_out, ["simd avx512bf16 of bf16", "simd avx2 of f16"]);
    let f16 = named.records.iter().filter(|record| record.dtype == "f16" && !record.method.contains('/'));
    assert_eq!(f16.count(), 3 * 12 * 6);
}

/// Of the other figure a level is chosen on demand alone.
#[test]
fn the_heatmap_takes_a_level_too() {
    let mut other = fixture();
    other.retain(|record| record.seq_len == 512);
    for record in &mut other {
        record.run = "later".into();
        record.simd = "avx512".into();
        record.measured_at = "2026-02-01T00:00:00Z".parse().unwrap();
    }
    let records = [fixture(), other].concat();
    let drawn = |simd: Option<&str>| {
        let query = Query { simd: simd.map(str::to_owned), ..Query::default() };
        let selection = query.select(records.clone(), Metric::Slowdown).unwrap();
        let levels: BTreeSet<String> = selection.drawn().map(|record| record.simd.clone()).collect();
        (selection.drawn().count(), Vec::from_iter(levels).join(" and "))
    };
    assert_eq!(drawn(None), (144, "avx2 and avx512".to_owned()));
    assert_eq!(drawn(Some("avx2")), (144, "avx2".to_owned()));
    assert_eq!(drawn(Some("avx512")), (48, "avx512".to_owned()));
}

#[test]
fn choices_have_names_of_their_own() {
    let stem = |query: Query, metric| query.select_decode(records(), metric).unwrap().stem;
    assert_eq!(stem(Query::default(), Metric::OverLimit), "decode-cpu");
    assert_eq!(stem(Query::default(), Metric::Slowdown), "decode-cpu-slowdown");
    let some = Query {
        workload: Some("linear-4096x4096".into()),
        dtype: Some("bf16".into()),
        ..query(&["base", "fused"])
    };
    assert_eq!(stem(some.clone(), Metric::OverLimit), "decode-cpu-linear-4096x4096-base-fused-bf16");
    assert_eq!(select(&some, records()).records.len(), 12 * 6);
}

#[test]
fn what_cannot_be_drawn_is_refused_with_the_reason() {
    let refused = |query: Query, records: Vec<Record>, metric| -> Error {
        query.select_decode(records, metric).unwrap_err()
    };
    let usual = || refused(Query::default(), fixture(), Metric::OverLimit);
    assert_eq!(
        usual().to_string(),
        "no record of base, fused has one token per sequence (seq_len 1); `cargo bench --bench decode` \
         measures them"
    );
    let peers: Vec<Record> = records().into_iter().filter(|record| record.method.contains('/')).collect();
    for records in [vec![], peers] {
        let error = refused(Query::default(), records, Metric::OverLimit);
        assert!(matches!(error, Error::NoFewTokens(_)), "{error}");
    }
    let error = refused(query(&["gemm"]), fixture(), Metric::OverLimit).to_string();
    assert!(error.contains("no record of gemm has one token per sequence"), "{error}");
    let bare: Vec<Record> = records().into_iter().map(|r| Record { limit_ns: None, ..r }).collect();
    let error = refused(Query::default(), bare, Metric::OverLimit);
    assert_eq!(error.to_string(), "no record of few tokens has a number of the metric over-limit");
    let error = refused(query(&["base"]), records(), Metric::Slowdown);
    assert_eq!(error.to_string(), "no record of few tokens has a number of the metric slowdown");
    for (query, says) in [
        (query(&["fsued"]), "no record has method 'fsued'; there are base, fused, gemm-f32/base"),
        (
            Query { workload: Some("x".into()), ..Query::default() },
            "no record has workload 'x'; there are linear",
        ),
        (
            Query { device: Some("x".into()), ..Query::default() },
            "no record has device 'x'; there are fixture",
        ),
        (
            Query { dtype: Some("f64".into()), ..Query::default() },
            "no record has dtype 'f64'; there are bf16, f16",
        ),
        (
            Query { simd: Some("amx".into()), ..Query::default() },
            "no record has simd 'amx'; there are avx512, ",
        ),
        (Query { adapters: Some(4), ..Query::default() }, "no record has adapters '4'; there are 1"),
    ] {
        let error = refused(query, records(), Metric::OverLimit).to_string();
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn the_png_is_twice_the_svg() {
    let svg = draw_decode_svg(&figure(records(), Metric::OverLimit)).unwrap();
    let (width, height) = Drawing::parse(&svg).size;
    let png = resvg::tiny_skia::Pixmap::decode_png(&png_from_svg(&svg).unwrap()).unwrap();
    assert_eq!((png.width(), png.height()), (2 * width, 2 * height));
}

fn heatmap(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_heatmap")).args(arguments).output().unwrap()
}

fn write(folder: &Path, name: &str, records: &[Record]) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, to_csv(records).unwrap()).unwrap();
    path
}

#[test]
fn the_command_writes_the_figure_and_its_records() {
    let folder = tempfile::tempdir().unwrap();
    let mut made_up = records();
    // The workload that records name need not be a known one.
    made_up.retain(|record| record.dtype != "f32");
    made_up.remove(0);
    let data = write(folder.path(), "all.csv", &[made_up.clone(), fixture()].concat());
    let draw = |data: &Path, out: &str, more: &[&str]| {
        let out = folder.path().join(out);
        let mut arguments = vec!["--figure", "decode", "--out", out.to_str().unwrap()];
        arguments.extend(["--data", data.to_str().unwrap()].iter().chain(more));
        let output = heatmap(&arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{stderr}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        (stdout.lines().map(PathBuf::from).collect::<Vec<PathBuf>>(), stderr)
    };
    let (first, stderr) = draw(&data, "first", &[]);
    let stems = ["svg", "png", "csv"].map(|end| folder.path().join(format!("first/decode-cpu.{end}")));
    assert_eq!(first, stems);
    assert_eq!(stderr, "missing: base at seq1/batch1/r0 of linear-1024x1024 in f16\n");
    let sorted = |mut records: Vec<Record>| {
        records.sort_by_key(|r| (r.workload.clone(), r.dtype.clone(), r.method.clone(), r.rank, r.batch));
        records
    };
    let written = fused_lora_records::read(&first[2..]).unwrap().records;
    assert_eq!(sorted(written), sorted(made_up.clone()));
    let (second, _) = draw(&first[2], "second", &[]);
    for (a, b) in first.iter().zip(&second) {
        assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{}", b.display());
    }
    let (slowdown, stderr) = draw(&data, "first", &["--metric", "slowdown"]);
    assert!(slowdown[0].ends_with("decode-cpu-slowdown.svg"));
    assert_eq!(stderr, "");
    let (low, _) = draw(&data, "third", &["--vmax", "1.5", "--colormap", "mako", "--rows", "base,fused"]);
    let drawing = Drawing::parse(&fs::read_to_string(&low[0]).unwrap());
    assert!((panels(&drawing)[0].top() - 1.5).abs() < 0.01);
    let colour = |drawing: &Drawing| legend(drawing)["fused, r = 64"].0.clone();
    assert_ne!(colour(&drawing), colour(&draw_default(&first[0])));
}

fn draw_default(path: &Path) -> Drawing {
    Drawing::parse(&fs::read_to_string(path).unwrap())
}

#[test]
fn mistakes_are_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (grid, few) =
        (write(folder.path(), "grid.csv", &fixture()), write(folder.path(), "few.csv", &records()));
    let out = folder.path().join("out");
    let (grid, few, o) = (grid.to_str().unwrap(), few.to_str().unwrap(), out.to_str().unwrap());
    let cases: &[(&[&str], i32, &str)] = &[
        (&["--figure", "decode", "--data", grid], 1, "`cargo bench --bench decode` measures them"),
        (&["--figure", "decode", "--data", few, "--rows", "gemm"], 1, "no record has method 'gemm'"),
        (&["--figure", "decode", "--data", few, "--simd", "amx"], 1, "no record has simd 'amx'"),
        (&["--figure", "heatmap", "--data", few], 1, "lies on the grid"),
        (&["--data", grid, "--simd", "amx"], 1, "no record has simd 'amx'; there are avx2"),
        (&["--figure", "lines", "--data", few], 2, "heatmap, decode"),
        (&["--figure", "decode", "--report", "--data", few], 2, "--report"),
        (&["--simd", "avx2", "--report", "--data", few], 2, "--report"),
        (&["--figure", "decode", "--data", few, "--vmax", "0"], 2, "neither a number above 0"),
    ];
    for (arguments, code, says) in cases {
        let output = heatmap(&[arguments, &["--out", o][..]].concat());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(*code), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(output.stdout.is_empty() && !out.exists(), "{arguments:?}");
    }
}

//! Which records a figure is drawn from.

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::{fixture, layer_fixture, query};
use fused_lora_heatmap::{Error, LAYER_ROWS, Metric, Query, Selection};
use fused_lora_records::{Record, Timestamp, parse, workspace_root};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The fixture measured again with some change, `day` days later.
fn again(day: u32, change: impl Fn(&mut Record)) -> Vec<Record> {
    let mut records = fixture();
    for record in &mut records {
        record.run = format!("day {day}");
        record.measured_at = at(&format!("2026-01-{:02}T00:00:00Z", 1 + day));
        change(record);
    }
    records
}

fn select(query: &Query, records: Vec<Record>) -> Result<Selection, Error> {
    query.select(records, Metric::Slowdown)
}

/// What is taken: the values that a column of it has; how many records are drawn, and how many of the base
/// beside them; what is left out; and the name of the files.
fn taken(query: Query, records: &[Record], of: impl Fn(&Record) -> String) -> String {
    let selection = select(&query, records.to_vec()).unwrap();
    let values: BTreeSet<String> = selection.drawn().chain(&selection.base).map(of).collect();
    let values = Vec::from_iter(values).join(" and ");
    let (drawn, base) = (selection.drawn().count(), selection.base.len());
    let (left_out, stem) = (selection.left_out.join(", "), selection.stem(Metric::Slowdown));
    format!("{values}: {drawn} + {base}, without {left_out}: {stem}")
}

#[test]
fn the_fixture_is_taken_whole() {
    let selection = select(&Query::default(), fixture()).unwrap();
    let rows: Vec<_> = selection.rows.iter().map(|row| (row.method.as_str(), row.records.len())).collect();
    assert_eq!(rows, [("unfused", 72), ("fused", 72)]);
    assert_eq!(selection.base.len(), 18);
    assert!(selection.base.iter().all(|record| record.method == "base" && record.rank == 0));
    assert_eq!(selection.left_out, Vec::<String>::new());
    assert_eq!(selection.stem(Metric::Slowdown), "linear-1024x1024-cpu");
}

#[test]
fn the_newest_measurement_of_a_cell_is_drawn() {
    // Only part of the grid was measured again: the rest stays.
    let mut later = again(3, |record| record.slowdown_pct = record.slowdown_pct.map(|_| 9.9));
    later.retain(|record| record.seq_len == 128);
    for records in [[fixture(), later.clone()].concat(), [later, fixture()].concat()] {
        let selection = select(&Query::default(), records).unwrap();
        for record in selection.drawn() {
            assert_eq!(record.slowdown_pct == Some(9.9), record.seq_len == 128);
        }
        assert_eq!(selection.drawn().count(), 144);
    }
}

#[test]
fn what_is_left_open_is_the_newest_records() {
    let records = [
        fixture(),
        again(1, |record| record.workload = "linear-4096x4096".into()),
        again(2, |record| record.backend = "cuda".into()),
    ]
    .concat();
    let of = |query: Query, records: &[Record]| taken(query, records, |record| record.run.clone());
    let newest = "day 2: 144 + 18, without workload linear-4096x4096, backend cpu: linear-1024x1024-cuda";
    assert_eq!(of(Query::default(), &records), newest);
    let workload = Query { workload: Some("linear-4096x4096".into()), ..Query::default() };
    let selection = select(&workload, records.clone()).unwrap();
    assert!(selection.drawn().chain(&selection.base).all(|record| record.run == "day 1"));
    assert_eq!(selection.stem(Metric::Slowdown), "linear-4096x4096-cpu");
    let cpu = Query { backend: Some("cpu".into()), ..Query::default() };
    assert!(taken(cpu, &records, |record| record.backend.clone()).starts_with("cpu: "));
    // A newer record of a method that is not drawn decides nothing.
    let peer = again(9, |record| {
        record.method = "gemm".into();
        record.workload = "gpt2-medium-linears".into();
    });
    assert_eq!(of(Query::default(), &[records, peer].concat()), newest);
}

#[test]
fn devices_are_mixed_only_on_demand() {
    let mut other = again(1, |record| record.device = "another".into());
    other.retain(|record| record.seq_len == 512);
    let records = [fixture(), other].concat();
    let of = |query| taken(query, &records, |record| record.device.clone());
    assert_eq!(of(Query::default()), "another: 48 + 6, without device fixture: linear-1024x1024-cpu");
    let query = Query { device: Some("fixture".into()), ..Query::default() };
    assert_eq!(of(query), "fixture: 144 + 18, without device another: linear-1024x1024-cpu");
    let query = Query { mix_devices: true, ..Query::default() };
    let selection = select(&query, records).unwrap();
    assert_eq!((selection.drawn().count(), selection.cache.as_str()), (144, "cold"));
    for record in selection.drawn() {
        assert_eq!(record.device == "another", record.seq_len == 512, "of each cell the newest");
    }
}

#[test]
fn cold_is_drawn_rather_than_warm() {
    let warm = again(1, |record| record.cache = "warm-w".into());
    let both = [fixture(), warm.clone()].concat();
    let of = |query, records: &[Record]| taken(query, records, |record| record.cache.clone());
    assert_eq!(of(Query::default(), &both), "cold: 144 + 18, without cache warm-w: linear-1024x1024-cpu");
    let query = Query { cache: Some("warm-w".into()), ..Query::default() };
    assert_eq!(of(query, &both), "warm-w: 144 + 18, without cache cold: linear-1024x1024-cpu-warm-w");
    assert_eq!(
        of(Query::default(), &warm),
        "warm-w: 144 + 18, without : linear-1024x1024-cpu-warm-w",
        "there is no other"
    );
}

/// Of bf16 only part of the grid was measured: what is missing is not filled up with f16.
#[test]
fn element_types_are_never_mixed() {
    let mut other = again(1, |record| record.dtype = "bf16".into());
    other.retain(|record| record.seq_len == 512);
    for records in [[fixture(), other.clone()].concat(), [other, fixture()].concat()] {
        let of = |query| taken(query, &records, |record| format!("{} {}", record.dtype, record.adapters));
        let newest = "bf16 1: 48 + 6, without dtype f16: linear-1024x1024-cpu-bf16";
        assert_eq!(of(Query::default()), newest, "that of the newest record");
        let query = Query { dtype: Some("f16".into()), ..Query::default() };
        assert_eq!(of(query), "f16 1: 144 + 18, without dtype bf16: linear-1024x1024-cpu");
        assert_eq!(of(Query { dtype: Some("bf16".into()), mix_devices: true, ..Query::default() }), newest);
    }
}

#[test]
fn numbers_of_adapters_are_not_mixed_and_share_the_base() {
    let mut several = again(1, |record| record.adapters = 16);
    several.retain(|record| record.method != "base" && record.seq_len == 128);
    let records = [fixture(), several].concat();
    // The base's number of adapters is always 1.
    let of =
        |query, records: &[Record]| {
            let is_base = |record: &Record| record.method == "base";
            taken(query, records, |r| {
                if is_base(r) { format!("-{}", r.adapters) } else { r.adapters.to_string() }
            })
        };
    let newest = "-1 and 16: 48 + 18, without adapters 1: linear-1024x1024-cpu-16adapters";
    assert_eq!(of(Query::default(), &records), newest, "that of the newest record");
    let query = Query { adapters: Some(1), ..Query::default() };
    assert_eq!(of(query, &records), "-1 and 1: 144 + 18, without adapters 16: linear-1024x1024-cpu");
    // A base that has another number of adapters is not everybody's.
    let odd = again(2, |record| record.adapters = 4);
    let query = Query { adapters: Some(16), ..Query::default() };
    assert!(of(query, &[records.clone(), odd].concat()).starts_with("-1 and 16: 48 + 18, "));
    // What else computes such a batch has rows below, and only there.
    let mut peers = records.clone();
    peers.retain(|record| record.adapters == 16);
    for record in &mut peers {
        record.method = if record.method == "fused" { "clones" } else { "torch-fp16/peft" }.into();
    }
    peers.extend(peers.clone().into_iter().map(|record| Record { adapters: 1, ..record }));
    let of = |adapters| {
        let query = Query { adapters: Some(adapters), ..Query::default() };
        let selection = select(&query, [records.clone(), peers.clone()].concat()).unwrap();
        let methods: Vec<String> = selection.rows.iter().map(|row| row.method.clone()).collect();
        (methods.join(" "), selection.stem(Metric::Slowdown))
    };
    let stem = "linear-1024x1024-cpu";
    assert_eq!(of(16), ("unfused fused clones torch-fp16/peft".into(), format!("{stem}-16adapters")));
    assert_eq!(of(1), ("unfused fused".into(), stem.into()));
}

/// Records of version 1 are of f16, so they are one figure with those of version 2.
#[test]
fn versions_of_the_file_make_one_figure() {
    let old = std::fs::read(workspace_root().join("figures/linear-1024x1024-cpu.csv")).unwrap();
    let old = parse(Path::new("old.csv"), &old).unwrap().records;
    let mut new = again(1, |record| {
        record.device.clone_from(&old[0].device);
        record.measured_at = at("2100-01-01T00:00:00Z");
    });
    new.retain(|record| record.seq_len == 512);
    let selection = select(&Query::default(), [old, new].concat()).unwrap();
    assert_eq!(selection.drawn().count(), 144);
    assert!(selection.drawn().all(|record| (record.run == "day 1") == (record.seq_len == 512)));
    assert_eq!(selection.stem(Metric::Slowdown), "linear-1024x1024-cpu");
}

#[test]
fn what_no_record_has_is_refused_with_what_there_is() {
    let cases = [
        (Query { rows: vec!["fsued".into()], ..Query::default() }, "method 'fsued'", "base, fused, unfused"),
        (
            Query { workload: Some("gpt2-medium-linears".into()), ..Query::default() },
            "workload 'gpt2-medium-linears'",
            "linear-1024x1024",
        ),
        (Query { backend: Some("cuda".into()), ..Query::default() }, "backend 'cuda'", "cpu"),
        (Query { device: Some("H100".into()), ..Query::default() }, "device 'H100'", "fixture"),
        (Query { cache: Some("warm-w".into()), ..Query::default() }, "cache 'warm-w'", "cold"),
        (Query { dtype: Some("f32".into()), ..Query::default() }, "dtype 'f32'", "f16"),
        (Query { adapters: Some(4), ..Query::default() }, "adapters '4'", "1"),
    ];
    for (query, wanted, present) in cases {
        let error = select(&query, fixture()).unwrap_err();
        assert_eq!(error.to_string(), format!("no record has {wanted}; there are {present}"));
    }
}

#[test]
fn what_is_off_the_grid_is_not_drawn() {
    let mut records = fixture();
    let odd = Record { batch: 3, ..records[3].clone() };
    records.push(Record { rank: 16, ..odd.clone() });
    records.push(odd.clone());
    assert_eq!(select(&Query::default(), records).unwrap().drawn().count(), 144);
    let error = select(&Query::default(), vec![odd]).unwrap_err();
    assert!(matches!(error, Error::NothingToDraw(_)), "{error}");
    assert!(matches!(select(&Query::default(), vec![]), Err(Error::NothingToDraw(_))));
    let mut bases = fixture();
    bases.retain(|record| record.method == "base");
    assert!(matches!(select(&Query::default(), bases), Err(Error::NothingToDraw(_))));
}

#[test]
fn a_metric_that_no_record_has_is_refused() {
    let strip = |record: Record| Record { gflops: None, ..record };
    let records: Vec<Record> = fixture().into_iter().map(strip).collect();
    assert!(Query::default().select(records.clone(), Metric::Time).is_ok());
    let error = Query::default().select(records, Metric::Gflops).unwrap_err();
    assert!(matches!(error, Error::NothingToDraw(_)), "{error}");
}

#[test]
fn a_row_that_was_not_measured_yet_is_drawn_empty() {
    let mut records = fixture();
    records.retain(|record| record.method != "unfused");
    let selection = select(&Query::default(), records).unwrap();
    let counts: Vec<usize> = selection.rows.iter().map(|row| row.records.len()).collect();
    assert_eq!(counts, [0, 72]);
}

#[test]
fn the_rows_follow_the_workload_unless_named() {
    let methods = |selection: &Selection| -> Vec<String> {
        selection.rows.iter().map(|row| row.method.clone()).collect()
    };
    // Both were measured, the layer last.
    let both = || [layer_fixture(), fixture()].concat();
    let newest = select(&Query::default(), both()).unwrap();
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
    let model = select(&Query::default(), model).unwrap();
    assert_eq!(methods(&model), LAYER_ROWS);
    assert_eq!(model.rows.iter().map(|row| row.records.len()).collect::<Vec<_>>(), [72, 0, 72, 72]);
}

#[test]
fn names_of_files_tell_choices_apart() {
    let stem = |query: &Query, metric| select(query, fixture()).unwrap().stem(metric);
    assert_eq!(stem(&query(&["unfused", "fused"]), Metric::Slowdown), "linear-1024x1024-cpu");
    assert_eq!(stem(&query(&["fused"]), Metric::Slowdown), "linear-1024x1024-cpu-fused");
    assert_eq!(stem(&query(&[]), Metric::Time), "linear-1024x1024-cpu-time");
    assert_eq!(stem(&query(&[]), Metric::OverFloor), "linear-1024x1024-cpu-over-floor");
    for (rows, end) in [
        (&[][..], ""),
        (&LAYER_ROWS, ""),
        (&LAYER_ROWS[..2], "-adapter-h-adapter-l"),
        (&LAYER_ROWS[2..], "-lora-unfused-lora-fused"),
    ] {
        let stem = select(&query(rows), layer_fixture()).unwrap().stem(Metric::Slowdown);
        assert_eq!(stem, format!("gpt2-medium-layer-cpu{end}"));
    }
    let other = again(0, |record| (record.dtype, record.adapters) = ("f32".into(), 4));
    let selection = select(&Query::default(), other).unwrap();
    assert_eq!(selection.stem(Metric::Slowdown), "linear-1024x1024-cpu-f32-4adapters");
    // A name that would lead elsewhere.
    let hostile: Vec<Record> = fixture()
        .into_iter()
        .map(|record| Record { workload: "../../etc/x".into(), backend: "a b".into(), ..record })
        .collect();
    let stem = select(&Query::default(), hostile).unwrap().stem(Metric::Slowdown);
    assert_eq!(stem, "-..-etc-x-a-b");
}

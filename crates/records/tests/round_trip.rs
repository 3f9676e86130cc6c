//! What the writer writes, the reader reads.

mod common;

use std::fs;
use std::path::Path;

use common::{line, record, text};
use fused_lora_records::{Record, RecordError, RecordFile, Timestamp, parse, read, to_csv};
use proptest::prelude::*;

/// Text with what CSV must quote, and what it must not trip over.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ -~]{1,20}",
        2 => "[,\"' #+;\t]{1,6}",
        1 => r#"[^\r\n\p{C}]{1,12}"#,
    ]
}

fn any_number() -> impl Strategy<Value = f64> {
    use proptest::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    prop_oneof![NORMAL | SUBNORMAL | ZERO | POSITIVE | NEGATIVE, (-100.0..100.0), Just(-0.4), Just(1.0 / 3.0)]
}

fn any_optional() -> impl Strategy<Value = Option<f64>> {
    proptest::option::of(any_number())
}

fn any_interval() -> impl Strategy<Value = (Option<f64>, Option<f64>)> {
    (any_optional(), any_optional()).prop_map(|(a, b)| match (a, b) {
        (Some(a), Some(b)) => (Some(a.min(b)), Some(a.max(b))),
        other => other,
    })
}

fn any_widths() -> impl Strategy<Value = (String, String)> {
    proptest::collection::vec((1usize..100_000, 1usize..100_000), 1..5).prop_map(|pairs| {
        let join = |widths: Vec<String>| widths.join("+");
        let (k, n): (Vec<_>, Vec<_>) = pairs.iter().map(|(k, n)| (k.to_string(), n.to_string())).unzip();
        (join(k), join(n))
    })
}

fn any_instant() -> impl Strategy<Value = Timestamp> {
    (1970..9999, 1..=12, 1..=28, 0..24, 0..60, 0..60, prop_oneof![Just(0), 0..1_000_000_000]).prop_map(
        |(year, month, day, h, m, s, nanos)| {
            format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{nanos:09}Z").parse().unwrap()
        },
    )
}

prop_compose! {
    fn any_record()(
        (run, workload, backend, device) in (any_text(), any_text(), any_text(), any_text()),
        (threads, simd, driver) in (proptest::option::of(0usize..), "[ -~]{0,9}", "[ -~]{0,9}"),
        (cache, method, commit, dirty) in (any_text(), any_text(), any_text(), any::<bool>()),
        (clock_mhz, floor_pct, floor_pad_pct, gflops) in
            (any_optional(), any_optional(), any_optional(), any_optional()),
        (d_in, d_out) in any_widths(),
        (seq_len, batch, rank, samples) in (1usize.., 1usize.., 0usize.., 0usize..),
        time_ns in any_number().prop_map(f64::abs).prop_filter("a time is above 0", |&t| t > 0.0),
        (time_lo_ns, time_hi_ns) in any_interval(),
        slowdown_pct in any_optional(),
        (slowdown_lo_pct, slowdown_hi_pct) in any_interval(),
        measured_at in any_instant(),
    ) -> Record {
        Record {
            run, workload, backend, device, threads, simd, driver, clock_mhz, cache, method, d_in, d_out,
            seq_len, batch, rank, time_ns, time_lo_ns, time_hi_ns, slowdown_pct, slowdown_lo_pct,
            slowdown_hi_pct, floor_pct, floor_pad_pct, gflops, samples, commit, dirty, measured_at,
        }
    }
}

/// Floats bit for bit: `==` calls 0 and −0 equal.
fn bits(record: &Record) -> Vec<Option<u64>> {
    let r = record;
    let numbers = [
        Some(r.time_ns),
        r.clock_mhz,
        r.time_lo_ns,
        r.time_hi_ns,
        r.slowdown_pct,
        r.slowdown_lo_pct,
        r.slowdown_hi_pct,
        r.floor_pct,
        r.floor_pad_pct,
        r.gflops,
    ];
    numbers.into_iter().map(|number| number.map(f64::to_bits)).collect()
}

proptest! {
    #[test]
    fn any_record_comes_back(records in proptest::collection::vec(any_record(), 1..4)) {
        // The run makes each of them another cell.
        let numbered = |(i, record): (usize, Record)| Record { run: format!("{i} {}", record.run), ..record };
        let records: Vec<Record> = records.into_iter().enumerate().map(numbered).collect();
        let found = parse(Path::new("memory"), &to_csv(&records).unwrap()).unwrap();
        prop_assert_eq!(&found.records, &records);
        prop_assert_eq!(found.warnings, vec![]);
        let bits_of = |records: &[Record]| records.iter().map(bits).collect::<Vec<_>>();
        prop_assert_eq!(bits_of(&found.records), bits_of(&records));
    }
}

#[test]
fn a_record_is_there_as_soon_as_it_is_appended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/records.csv");
    let mut file = RecordFile::create(&path).unwrap();
    let mut written = Vec::new();
    for rank in [0, 10, 100] {
        written.push(Record { rank, device: "a, \"b\" and c".into(), ..record() });
        file.append(&written[written.len() - 1]).unwrap();
        assert_eq!(read(&[&path]).unwrap().records, written);
    }
}

#[test]
fn the_file_is_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    let mut file = RecordFile::create(&path).unwrap();
    file.append(&record()).unwrap();
    assert_eq!(file.path(), path);
    assert_eq!(fs::read_to_string(&path).unwrap(), text(&[line(&[])]));
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    let mut file = RecordFile::create(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = |file: &mut RecordFile, record: Record| match file.append(&record).unwrap_err() {
        RecordError::Unwritable { refused, .. } => refused.column,
        other => panic!("{other}"),
    };
    assert_eq!(refused(&mut file, Record { time_ns: f64::NAN, ..record() }), "time_ns");
    assert_eq!(refused(&mut file, Record { gflops: Some(f64::INFINITY), ..record() }), "gflops");
    assert_eq!(refused(&mut file, Record { slowdown_pct: Some(f64::NAN), ..record() }), "slowdown_pct");
    assert_eq!(refused(&mut file, Record { device: "two\nlines".into(), ..record() }), "device");
    assert_eq!(refused(&mut file, Record { driver: "a\rb".into(), ..record() }), "driver");
    assert_eq!(refused(&mut file, Record { method: String::new(), ..record() }), "method");
    assert_eq!(refused(&mut file, Record { d_out: "1024x1024".into(), ..record() }), "d_out");
    assert_eq!(fs::read(&path).unwrap(), before);
    let bad = Record { time_ns: 0.0, ..record() };
    let refused = to_csv([&record(), &bad]).unwrap_err();
    assert_eq!(refused.to_string(), "a record with time_ns = '0' is not written: must be above 0");
}

#[test]
fn all_at_once_is_the_same_as_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    let records = [record(), Record { rank: 100, ..record() }];
    let mut file = RecordFile::create(&path).unwrap();
    for record in &records {
        file.append(record).unwrap();
    }
    let bytes = to_csv(&records).unwrap();
    assert_eq!(bytes, fs::read(&path).unwrap());
    assert_eq!(parse(&path, &bytes).unwrap(), read(&[&path]).unwrap());
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    fs::write(&path, "precious").unwrap();
    assert!(matches!(RecordFile::create(&path), Err(RecordError::Io { .. })));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn appending_goes_on_after_a_kill_at_any_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    let whole = text(&[line(&[]), line(&[("rank", "100")])]);
    let next = Record { rank: 250, ..record() };
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let before = read(&[&path]).unwrap().records;
        RecordFile::open_append(&path).unwrap().append(&next).unwrap();
        let after = read(&[&path]).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(after.records, [before, vec![next.clone()]].concat(), "cut at {cut}");
        assert_eq!(after.warnings, [], "cut at {cut}");
    }
}

#[test]
fn only_files_of_records_are_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    assert!(matches!(RecordFile::open_append(&path), Err(RecordError::Io { .. })), "there is none yet");
    let whole = text(&[]);
    let swapped = whole.replace("run,workload", "workload,run");
    let cases = [
        "other text".to_owned(),
        "other text\nin lines\n".to_owned(),
        whole.replace("records 1", "records 2"),
        whole.replace(",simd", ""),
        swapped,
    ];
    for text in cases {
        fs::write(&path, &text).unwrap();
        assert!(RecordFile::open_append(&path).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "must be left as it was");
    }
}

#[test]
fn a_file_has_one_writer_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    let first = RecordFile::create(&path).unwrap();
    assert!(matches!(RecordFile::open_append(&path), Err(RecordError::InUse { .. })));
    drop(first);
    RecordFile::open_append(&path).unwrap().append(&record()).unwrap();
}

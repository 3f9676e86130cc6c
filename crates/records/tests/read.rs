//! What the reader accepts, and what it says of everything else.

mod common;

use std::fs;
use std::path::PathBuf;

use common::{line, record, text, version_1};
use fused_lora_records::{Clock, Fault, Record, RecordError, Records, Warning, newest, read};
use tempfile::TempDir;

/// Writes one file per text and reads them all.
fn read_bytes(files: &[&[u8]]) -> (Result<Records, RecordError>, Vec<PathBuf>, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (i, bytes) in files.iter().enumerate() {
        paths.push(folder.path().join(format!("{i}.csv")));
        fs::write(&paths[i], bytes).unwrap();
    }
    (read(&paths), paths, folder)
}

fn read_text(text: &str) -> Result<Records, RecordError> {
    read_bytes(&[text.as_bytes()]).0
}

/// The message for a file with this text, without the folder that the test put it in.
fn message(text: &str) -> String {
    let (result, _, folder) = read_bytes(&[text.as_bytes()]);
    let message = result.expect_err("must be refused").to_string();
    message.replace(&format!("{}/", folder.path().display()), "")
}

#[test]
fn every_column_lands_in_its_field() {
    let found = read_text(&text(&[line(&[])])).unwrap();
    assert_eq!(found, Records { records: vec![record()], warnings: vec![] });
}

#[test]
fn optional_columns_may_be_empty() {
    let empty = ["threads", "simd", "driver", "clock_mhz", "time_lo_ns", "time_hi_ns", "slowdown_pct"];
    let more = ["slowdown_lo_pct", "slowdown_hi_pct", "floor_pct", "floor_pad_pct", "limit_ns", "gflops"];
    let changes: Vec<_> = empty.iter().chain(&more).map(|column| (*column, "")).collect();
    let found = read_text(&text(&[line(&changes)])).unwrap().records.remove(0);
    let mut expected = record();
    (expected.threads, expected.clock_mhz) = (None, None);
    expected.simd.clear();
    expected.driver.clear();
    (expected.time_lo_ns, expected.time_hi_ns) = (None, None);
    (expected.slowdown_pct, expected.slowdown_lo_pct, expected.slowdown_hi_pct) = (None, None, None);
    (expected.floor_pct, expected.floor_pad_pct, expected.gflops) = (None, None, None);
    expected.limit_ns = None;
    assert_eq!(found, expected);
}

#[test]
fn columns_may_stand_in_another_order() {
    let shuffle = |line: &str| {
        let mut fields: Vec<&str> = line.split(',').collect();
        fields.reverse();
        fields.join(",")
    };
    let whole = text(&[line(&[])]);
    let mut lines = whole.lines();
    let version = lines.next().unwrap();
    let rest: Vec<String> = lines.map(shuffle).collect();
    let found = read_text(&format!("{version}\n{}\n", rest.join("\n"))).unwrap();
    assert_eq!(found.records, [record()]);
}

#[test]
fn windows_line_ends_are_line_ends() {
    let found = read_text(&text(&[line(&[]), line(&[("rank", "100")])]).replace('\n', "\r\n")).unwrap();
    assert_eq!(found.records.len(), 2);
    assert_eq!(found.records[0], record());
    assert!(found.warnings.is_empty());
}

/// Cut a file of either version after every single byte: the whole lines before the cut stay, and nothing
/// else does. (Version 1 was written line by line, so its last line may be torn.)
#[test]
fn a_torn_last_line_is_dropped_wherever_it_tore() {
    let old = version_1(&text(&[line(&[]), line(&[("rank", "100")])]));
    let new = text(&[line(&[("device", "\"a, \"\"b\"\" and c\"")]), line(&[("rank", "100")])]);
    for whole in [old, new] {
        let all = read_text(&whole).unwrap();
        assert_eq!((all.records.len(), all.warnings.len()), (2, 0));
        for cut in 0..whole.len() {
            let kept = &whole[..cut];
            let (found, paths, _folder) = read_bytes(&[kept.as_bytes()]);
            let found = found.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
            let ends = kept.matches('\n').count();
            assert_eq!(found.records, all.records[..ends.saturating_sub(2)], "cut at {cut}");
            let warning = if ends < 2 {
                Some(Warning::NoHeader { path: paths[0].clone() })
            } else if kept.ends_with('\n') {
                None
            } else {
                Some(Warning::TornLine { path: paths[0].clone(), line: ends + 1 })
            };
            assert!(found.warnings.iter().all(|warning| warning.to_string().contains("0.csv:")));
            assert_eq!(found.warnings, Vec::from_iter(warning), "cut at {cut}");
        }
    }
}

#[test]
fn other_files_and_versions_are_refused() {
    let found = message("hello\nworld\n");
    assert!(found.starts_with("0.csv:1: not a file of records: the first line is 'hello'"), "{found}");
    assert!(message("not a file of records, and no line end").starts_with("0.csv:1: not a file of records"));
    assert!(message("\u{1}\u{2}\n").starts_with("0.csv:1: not a file of records"));
    for version in ["3", "10", "20", "2 ", ""] {
        let other = text(&[]).replace("records 2", &format!("records {version}"));
        let expected = format!("0.csv:1: records of version {version}; this program reads versions 1 and 2");
        assert_eq!(message(&other), expected);
    }
    // Without its first line the header stands where the version should.
    let headless: String = text(&[line(&[])]).lines().skip(1).map(|line| format!("{line}\n")).collect();
    assert!(
        message(&headless).starts_with("0.csv:1: not a file of records: the first line is 'run,workload")
    );
}

#[test]
fn the_header_must_be_exactly_the_columns() {
    let whole = text(&[line(&[])]);
    assert_eq!(message(&whole.replace(",simd,", ",smid,")), "0.csv:2: unknown column 'smid' in the header");
    assert_eq!(
        message(&whole.replace(",measured_at\n", ",measured_at,note\n")),
        "0.csv:2: unknown column 'note' in the header"
    );
    assert_eq!(message(&whole.replace(",simd,", ",")), "0.csv:2: column 'simd' is missing in the header");
    assert_eq!(
        message(&whole.replace(",simd,", ",threads,")),
        "0.csv:2: column 'threads' is twice in the header"
    );
    // No header at all: the first record stands in its place.
    let no_header = format!("# fused-lora-records 2\n{}\n", line(&[]));
    assert_eq!(message(&no_header), "0.csv:2: unknown column '20260101-120000' in the header");
}

#[test]
fn a_bad_line_is_an_error_with_its_number() {
    let good = line(&[("rank", "0")]);
    let after_good = |bad: String| message(&text(&[good.clone(), bad]));
    assert_eq!(after_good(String::new()), "0.csv:4: 1 fields, but the header has 33");
    assert_eq!(after_good(line(&[]) + ","), "0.csv:4: 34 fields, but the header has 33");
    assert_eq!(after_good("# a remark".into()), "0.csv:4: 1 fields, but the header has 33");
    let cut_inside = line(&[])[..60].to_owned();
    assert!(after_good(cut_inside).starts_with("0.csv:4: "));
    assert!(after_good(line(&[("device", "\"never closed")])).starts_with("0.csv:4: "));
}

#[test]
fn a_bad_field_is_named_with_its_text() {
    let cases = [
        ("time_ns", "NaN", "not a finite number"),
        ("time_ns", "inf", "not a finite number"),
        ("time_ns", "-inf", "not a finite number"),
        ("time_ns", "1e999", "not a finite number"),
        ("time_ns", "", "not a number"),
        ("time_ns", "fast", "not a number"),
        ("time_ns", "0", "must be above 0"),
        ("time_ns", "-1", "must be above 0"),
        ("slowdown_pct", "nan", "not a finite number"),
        ("slowdown_pct", "5 %", "not a number"),
        ("floor_pad_pct", "infinity", "not a finite number"),
        ("gflops", "1 000", "not a number"),
        ("clock_mhz", "NaN", "not a finite number"),
        ("time_hi_ns", "1", "is below time_lo_ns"),
        ("slowdown_hi_pct", "-1", "is below slowdown_lo_pct"),
        ("threads", "two", "not a whole number"),
        ("threads", "2.0", "not a whole number"),
        ("seq_len", "-128", "not a whole number"),
        ("seq_len", "0", "must be at least 1"),
        ("batch", "0", "must be at least 1"),
        ("batch", "", "not a whole number"),
        ("rank", "-1", "not a whole number"),
        ("samples", "", "not a whole number"),
        ("adapters", "0", "must be at least 1"),
        ("adapters", "", "not a whole number"),
        ("limit_ns", "0", "must be above 0"),
        ("limit_ns", "-1", "must be above 0"),
        ("limit_ns", "NaN", "not a finite number"),
        ("repeated", "", "not a whole number"),
        ("repeated", "-1", "not a whole number"),
        ("ratio_by", "", "neither wall nor cpu"),
        ("ratio_by", "Wall", "neither wall nor cpu"),
        ("dtype", "", "is empty"),
        ("run", "", "is empty"),
        ("workload", "", "is empty"),
        ("method", "", "is empty"),
        ("device", "", "is empty"),
        ("d_in", "wide", "not a width, or several joined by '+'"),
        ("d_out", "1024+", "not a width, or several joined by '+'"),
        ("d_out", "1024+1024", "has not as many widths as d_in"),
        ("dirty", "no", "neither true nor false"),
    ];
    for (column, value, reason) in cases {
        let found = message(&text(&[line(&[("rank", "0")]), line(&[(column, value)])]));
        assert_eq!(found, format!("0.csv:4: {column} = '{value}': {reason}"));
    }
    let found = message(&text(&[line(&[("measured_at", "yesterday")])]));
    assert!(found.starts_with("0.csv:3: measured_at = 'yesterday': not an instant in UTC"), "{found}");
}

#[test]
fn text_that_is_not_utf8_is_named() {
    let mut bytes = text(&[]).into_bytes();
    bytes.extend_from_slice(b"\xff\xfe,b\n");
    let (result, ..) = read_bytes(&[&bytes]);
    assert!(matches!(result, Err(RecordError { line: Some(3), fault: Fault::Encoding, .. })));
}

#[test]
fn a_cell_twice_in_a_run_is_an_error() {
    let twice = text(&[line(&[]), line(&[("rank", "0")]), line(&[("time_ns", "1250000")])]);
    let found = message(&twice);
    assert_eq!(found, "0.csv:5: run '20260101-120000' has fused at seq128/batch4/r10 already, at 0.csv:3");
    // Also over two files, where both places are named.
    let one = text(&[line(&[])]);
    let (result, paths, _folder) = read_bytes(&[one.as_bytes(), one.as_bytes()]);
    let error = result.unwrap_err();
    let Fault::Duplicate { path, line, .. } = error.fault else { panic!("{error}") };
    assert_eq!((error.path, error.line, path, line), (paths[1].clone(), Some(3), paths[0].clone(), 3));
}

#[test]
fn what_differs_in_one_key_column_is_no_duplicate() {
    let mut lines = vec![line(&[])];
    let others = [
        ("run", "another"),
        ("workload", "another"),
        ("backend", "cuda"),
        ("device", "another"),
        ("cache", "warm-w"),
        ("dtype", "f32"),
        ("adapters", "4"),
        ("method", "unfused"),
        ("seq_len", "256"),
        ("batch", "8"),
        ("rank", "100"),
    ];
    lines.extend(others.iter().map(|change| line(&[*change])));
    assert_eq!(read_text(&text(&lines)).unwrap().records.len(), 12);
}

#[test]
fn a_missing_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = read(&[folder.path().join("none.csv")]).unwrap_err();
    assert!(error.to_string().ends_with("none.csv: cannot be read"), "{error}");
    assert!(matches!(error.fault, Fault::Io(..)));
}

#[test]
fn across_runs_the_newest_counts() {
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let lines = [
        line(&[("run", "new"), ("time_ns", "1250000"), ("measured_at", new)]),
        line(&[("run", "old"), ("measured_at", old)]),
        line(&[("run", "old"), ("measured_at", old), ("rank", "100")]),
        line(&[("run", "old"), ("measured_at", old), ("device", "another")]),
        line(&[("run", "old"), ("measured_at", old), ("dtype", "f16")]),
        line(&[("run", "old"), ("measured_at", old), ("adapters", "1")]),
    ];
    let kept = newest(read_text(&text(&lines)).unwrap().records);
    let runs: Vec<_> = kept.iter().map(|record| (record.run.as_str(), record.rank)).collect();
    assert_eq!(runs, [("new", 10), ("old", 100), ("old", 10), ("old", 10), ("old", 10)]);
    assert_eq!((&*kept[2].device, &*kept[3].dtype, kept[4].adapters), ("another", "f16", 1));
    // The order of the lines does not matter, save for a tie.
    let [first, second, ..] = lines;
    let kept = newest(read_text(&text(&[second.clone(), first])).unwrap().records);
    assert_eq!(kept.iter().map(|record| record.time_ns).collect::<Vec<_>>(), [1_250_000.0]);
    let tie = line(&[("run", "tie"), ("measured_at", old), ("time_ns", "1210000")]);
    let kept = newest(read_text(&text(&[second, tie])).unwrap().records);
    assert_eq!(kept.iter().map(|record| record.time_ns).collect::<Vec<_>>(), [1_210_000.0]);
}

#[test]
fn version_1_is_read_with_its_defaults() {
    let methods =
        ["fused", "torch-fp32/base", "torch-bf16/peft", "torch-fp16/peft", "torch-fp32", "x/torch-bf16/y"];
    let lines = methods.map(|method| line(&[("method", method)]));
    let found = read_text(&version_1(&text(&lines))).unwrap();
    assert_eq!(found.warnings, []);
    let dtypes = ["f16", "f32", "bf16", "f16", "f16", "f16"];
    let expected = methods.iter().zip(dtypes).map(|(method, dtype)| Record {
        method: (*method).into(),
        dtype: dtype.into(),
        adapters: 1,
        limit_ns: None,
        repeated: 0,
        ratio_by: Clock::Wall,
        ..record()
    });
    assert_eq!(found.records, expected.collect::<Vec<_>>());
}

#[test]
fn both_versions_are_read_together() {
    let new = text(&[line(&[("dtype", "f16"), ("adapters", "1"), ("rank", "100")]), line(&[])]);
    let old = version_1(&text(&[line(&[])]));
    let (found, ..) = read_bytes(&[old.as_bytes(), new.as_bytes(), b""]);
    let found = found.unwrap();
    let cells: Vec<_> = found.records.iter().map(|r| (r.rank, r.dtype.as_str(), r.adapters)).collect();
    assert_eq!(cells, [(10, "f16", 1), (100, "f16", 1), (10, "bf16", 3)]);
    // What the defaults make the same cell is the same cell.
    let same = text(&[line(&[("dtype", "f16"), ("adapters", "1")])]);
    let (found, ..) = read_bytes(&[old.as_bytes(), same.as_bytes()]);
    assert!(matches!(found.unwrap_err().fault, Fault::Duplicate { .. }));
}

#[test]
fn each_version_has_exactly_its_columns() {
    let (old, new) = (version_1(&text(&[line(&[])])), text(&[line(&[])]));
    let as_old = new.replace("records 2", "records 1");
    assert_eq!(message(&as_old), "0.csv:2: unknown column 'dtype' in the header");
    let as_new = old.replace("records 1", "records 2");
    assert_eq!(message(&as_new), "0.csv:2: column 'dtype' is missing in the header");
    assert_eq!(message(&old.replace(",simd,", ",")), "0.csv:2: column 'simd' is missing in the header");
    assert_eq!(message(&old.replace("\n2026", "\nx,2026")), "0.csv:3: 29 fields, but the header has 28");
    let bad = old.replace(",31,", ",few,");
    assert_eq!(message(&bad), "0.csv:3: samples = 'few': not a whole number");
}

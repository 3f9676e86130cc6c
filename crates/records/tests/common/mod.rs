//! What the tests of this crate share.

#![allow(dead_code, reason = "each test file uses its own part")]

use fused_lora_records::{Clock, Record};

/// A record with every field set.
pub(crate) fn record() -> Record {
    Record {
        run: "20260101-120000".into(),
        workload: "linear-1024x1024".into(),
        backend: "cpu".into(),
        device: "made up".into(),
        threads: Some(2),
        simd: "avx512".into(),
        driver: "550.54".into(),
        clock_mhz: Some(2900.5),
        cache: "cold".into(),
        dtype: "bf16".into(),
        method: "fused".into(),
        d_in: "1024".into(),
        d_out: "1024".into(),
        seq_len: 128,
        batch: 4,
        rank: 10,
        adapters: 3,
        time_ns: 1_234_567.5,
        time_lo_ns: Some(1_200_000.0),
        time_hi_ns: Some(1_300_000.0),
        slowdown_pct: Some(2.5),
        slowdown_lo_pct: Some(-0.4),
        slowdown_hi_pct: Some(3.25),
        floor_pct: Some(1.953125),
        floor_pad_pct: Some(3.125),
        limit_ns: Some(1_100_000.25),
        gflops: Some(187.5),
        samples: 31,
        repeated: 2,
        ratio_by: Clock::Cpu,
        commit: "0123456789abcdef".into(),
        dirty: false,
        measured_at: "2026-01-01T12:00:00.125Z".parse().unwrap(),
    }
}

/// A file's text: the version line, the header, and these lines.
pub(crate) fn text(lines: &[String]) -> String {
    let header = fused_lora_records::COLUMNS.join(",");
    let mut text = format!("{}\n{header}\n", fused_lora_records::VERSION_LINE);
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The text of each column of [`record`].
const VALUES: &str = "20260101-120000,linear-1024x1024,cpu,made up,2,avx512,550.54,2900.5,cold,bf16,fused,\
    1024,1024,128,4,10,3,1234567.5,1200000,1300000,2.5,-0.4,3.25,1.953125,3.125,1100000.25,187.5,31,2,cpu,\
    0123456789abcdef,false,2026-01-01T12:00:00.125Z";

/// The line of [`record`], with some columns' text replaced.
pub(crate) fn line(changes: &[(&str, &str)]) -> String {
    let mut values: Vec<&str> = VALUES.split(',').collect();
    for &(column, text) in changes {
        let place = fused_lora_records::COLUMNS.iter().position(|name| *name == column);
        values[place.unwrap_or_else(|| panic!("no column {column}"))] = text;
    }
    values.join(",")
}

/// The columns that version 1 lacks.
pub(crate) const NEW_COLUMNS: [&str; 5] = ["dtype", "adapters", "limit_ns", "repeated", "ratio_by"];

/// That text as it is in version 1, without the columns that version 1 lacks. No field may have a comma in
/// it.
pub(crate) fn version_1(text: &str) -> String {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(fused_lora_records::VERSION_LINE));
    let of_version_1 = |line: &str| {
        let fields = fused_lora_records::COLUMNS.iter().zip(line.split(','));
        let kept = fields.filter(|(column, _)| !NEW_COLUMNS.contains(column)).map(|(_, field)| field);
        kept.collect::<Vec<_>>().join(",") + "\n"
    };
    format!("# fused-lora-records 1\n{}", lines.map(of_version_1).collect::<String>())
}

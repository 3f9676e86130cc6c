//! What the writer writes, the reader reads.

mod common;

use std::path::Path;

use common::record;
use fused_lora_records::{Clock, Record, Timestamp, parse, to_csv};
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

fn any_time() -> impl Strategy<Value = f64> {
    any_number().prop_map(f64::abs).prop_filter("a time is above 0", |&t| t > 0.0)
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
        (dtype, adapters, repeated) in (any_text(), 1usize.., 0usize..),
        limit_ns in proptest::option::of(any_time()),
        ratio_by in prop_oneof![Just(Clock::Wall), Just(Clock::Cpu)],
        time_ns in any_time(),
        (time_lo_ns, time_hi_ns) in any_interval(),
        slowdown_pct in any_optional(),
        (slowdown_lo_pct, slowdown_hi_pct) in any_interval(),
        measured_at in any_instant(),
    ) -> Record {
        Record {
            run, workload, backend, device, threads, simd, driver, clock_mhz, cache, dtype, method, d_in,
            d_out, seq_len, batch, rank, adapters, time_ns, time_lo_ns, time_hi_ns, slowdown_pct,
            slowdown_lo_pct, slowdown_hi_pct, floor_pct, floor_pad_pct, limit_ns, gflops, samples, repeated,
            ratio_by, commit, dirty, measured_at,
        }
    }
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
        // Floats bit for bit, as they are written: `==` calls 0 and −0 equal.
        prop_assert_eq!(format!("{:?}", found.records), format!("{records:?}"));
    }
}

#[test]
fn what_could_not_be_read_back_is_not_written() {
    for (column, bad) in [
        ("time_ns", Record { time_ns: f64::NAN, ..record() }),
        ("gflops", Record { gflops: Some(f64::INFINITY), ..record() }),
        ("slowdown_pct", Record { slowdown_pct: Some(f64::NEG_INFINITY), ..record() }),
        ("limit_ns", Record { limit_ns: Some(f64::NAN), ..record() }),
        ("device", Record { device: "two\nlines".into(), ..record() }),
        ("driver", Record { driver: "a\rb".into(), ..record() }),
        ("method", Record { method: String::new(), ..record() }),
        ("dtype", Record { dtype: String::new(), ..record() }),
        ("adapters", Record { adapters: 0, ..record() }),
        ("d_out", Record { d_out: "1024x1024".into(), ..record() }),
    ] {
        assert_eq!(to_csv([&record(), &bad]).unwrap_err().column, column);
    }
    let refused = to_csv([&record(), &Record { time_ns: 0.0, ..record() }]).unwrap_err();
    assert_eq!(refused.to_string(), "time_ns = '0': must be above 0");
}

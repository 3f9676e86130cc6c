//! Methods of which nothing matters but what a test asks for.

use crate::check::check;
use crate::method::{Call, Method, Probe, What};
use crate::size::Size;
use crate::suite::Suite;
use crate::work::Work;

pub(crate) fn method(name: &str, rank: usize, base: Option<usize>) -> Method {
    Method {
        what: What::Linear(0, fused_lora::Strategy::Base),
        names: vec![name.to_owned()],
        rank,
        ids: vec![format!("r{rank}/{name}")],
        base,
        work: Work { flops: 1e6, bytes: 1e3 },
        floor: None,
        dtype: "f16",
        ours: true,
    }
}

pub(crate) fn probe(probe: Probe) -> Method {
    Method { what: What::Probe(probe), ids: Vec::new(), ..method("probe", 0, None) }
}

/// A suite's methods, ready on so many slots, after each was found right. A probe runs and has no y.
pub(crate) fn checked(
    suite: &mut impl Suite,
    size: Size,
    slots: usize,
    methods: &[Method],
) -> Vec<Box<dyn Call>> {
    let mut calls = suite.prepare(size, slots, methods).unwrap();
    for (method, call) in methods.iter().zip(&mut calls) {
        let expected = suite.expected(size, method).unwrap();
        check(method, &mut **call, &expected).unwrap_or_else(|error| panic!("{error}"));
    }
    calls
}

/// The first GPU; None, and a line that says why, where there is none. A simulated one will do.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn gpu() -> Option<crate::cuda::Gpu> {
    use fused_lora::cuda::Error;
    match crate::cuda::Gpu::open(0) {
        Ok(gpu) => Some(gpu),
        Err(error @ (Error::NoDriver(_) | Error::NoDevice)) => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("there is a driver, but {error}"),
    }
}

/// A record of which nothing matters but what is given.
pub(crate) fn record(
    method: &str,
    cell: fused_lora_records::Cell,
    time_ns: f64,
) -> fused_lora_records::Record {
    fused_lora_records::Record {
        run: "made-up".to_owned(),
        workload: "gpt2-medium-layer".to_owned(),
        backend: "cpu".to_owned(),
        device: "some cpu".to_owned(),
        threads: Some(2),
        simd: "avx2".to_owned(),
        driver: String::new(),
        clock_mhz: None,
        cache: "cold".to_owned(),
        dtype: "f16".to_owned(),
        method: method.to_owned(),
        d_in: "1024".to_owned(),
        d_out: "1024".to_owned(),
        seq_len: cell.seq_len,
        batch: cell.batch,
        rank: cell.rank,
        adapters: 1,
        time_ns,
        time_lo_ns: None,
        time_hi_ns: None,
        slowdown_pct: None,
        slowdown_lo_pct: None,
        slowdown_hi_pct: None,
        floor_pct: None,
        floor_pad_pct: None,
        limit_ns: None,
        gflops: None,
        samples: 6,
        repeated: 0,
        ratio_by: fused_lora_records::Clock::Wall,
        commit: "unknown".to_owned(),
        dirty: false,
        measured_at: "2026-01-31T12:00:00Z".parse().unwrap(),
    }
}

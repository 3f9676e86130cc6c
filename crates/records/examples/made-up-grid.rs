//! Writes a whole grid of made-up numbers, for tests and for looking at the figure where nothing was
//! measured:
//!
//! ```text
//! cargo run -p fused-lora-records --example made-up-grid -- FILE [WORKLOAD]
//! ```
//!
//! Nothing here is a measurement. The times follow a simple model (160 GFLOP/s of a peak of 200, the floor times a
//! factor, a fixed cost per extra product) with some noise that is the same each time; so do the repeated rounds,
//! and the cells whose ratios are of CPU times. The device is "fixture".

use std::error::Error;

use fused_lora_records::{Clock, RANKS, Record, RunFile, Timestamp, Workload, grid};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: made-up-grid FILE [WORKLOAD]")?;
    let name = arguments.next().unwrap_or_else(|| Workload::LINEARS[0].name().to_owned());
    let workload = Workload::by_name(&name)?;
    let mut file = RunFile::create(path)?;
    let mut records = Vec::new();
    let mut noise = Noise(0x5eed);
    for (ordinal, cell) in grid().enumerate() {
        let base_ns = workload.flops_base(cell.m()) / 160.0;
        let floor = workload.floor_pct(cell.rank);
        // Each extra product of `unfused` costs a fixed time and reads x or y once more.
        let launch = if cell.rank == 0 { 0.0 } else { 2e6 / base_ns + 3.0 };
        let models = [("base", 0.0), ("unfused", 1.4 * floor + launch), ("fused", 1.03 * floor + 0.4)];
        for (method, modelled) in models {
            let is_base = method == "base";
            if is_base && cell.rank != RANKS[0] {
                continue;
            }
            let modelled = if cell.rank == 0 { 0.0 } else { modelled };
            let slowdown = round(modelled + noise.next(), 3);
            let time_ns = round(if is_base { base_ns } else { base_ns * (1.0 + slowdown / 100.0) }, 1);
            let some = |value: f64| (!is_base).then_some(value);
            records.push(Record {
                run: "made-up".to_owned(),
                workload: workload.name().to_owned(),
                backend: "cpu".to_owned(),
                device: "fixture".to_owned(),
                threads: Some(2),
                simd: "avx2".to_owned(),
                driver: String::new(),
                clock_mhz: None,
                cache: "cold".to_owned(),
                dtype: "f16".to_owned(),
                method: method.to_owned(),
                d_in: workload.d_in(),
                d_out: workload.d_out(),
                seq_len: cell.seq_len,
                batch: cell.batch,
                rank: cell.rank,
                adapters: 1,
                time_ns,
                time_lo_ns: Some(round(time_ns * 0.99, 1)),
                time_hi_ns: Some(round(time_ns * 1.01, 1)),
                slowdown_pct: some(slowdown),
                slowdown_lo_pct: some(round(slowdown - 0.5, 3)),
                slowdown_hi_pct: some(round(slowdown + 0.5, 3)),
                floor_pct: Some(floor),
                floor_pad_pct: Some(workload.floor_pad_pct(cell.rank, 8, 1)),
                limit_ns: Some(round(workload.flops(cell.m(), cell.rank) / 200.0, 1)),
                gflops: Some(round(workload.flops(cell.m(), cell.rank) / time_ns, 2)),
                samples: 30,
                repeated: ordinal % 4,
                ratio_by: if ordinal % 24 == 5 { Clock::Cpu } else { Clock::Wall },
                commit: "unknown".to_owned(),
                dirty: false,
                measured_at: instant(ordinal)?,
            });
        }
    }
    file.put(&records)?;
    Ok(())
}

fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// One cell every two seconds.
fn instant(ordinal: usize) -> Result<Timestamp, Box<dyn Error>> {
    let seconds = 2 * ordinal;
    Ok(format!("2026-01-01T00:{:02}:{:02}Z", seconds / 60, seconds % 60).parse()?)
}

/// Numbers between −0.5 and 0.5, the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1 << 24) - 0.5
    }
}

//! Writes a whole grid of made-up numbers of a transformer layer, for tests and for looking at the figure where
//! nothing was measured:
//!
//! ```text
//! cargo run -p fused-lora-heatmap --example made-up-layer -- FILE
//! ```
//!
//! Nothing here is a measurement. The times follow a simple model with some noise that is the same each time: 160
//! GFLOP/s, the method's floor times a factor, and fixed costs that count less the more tokens there are. The
//! device is "fixture".

use std::error::Error;

use fused_lora_records::{Cell, Clock, Record, RunFile, Timestamp, grid};

/// Width of GPT-2 medium.
const D: f64 = 1024.0;
/// Multiply-adds of the layer's four products per token, which floors are counted against.
const PRODUCTS: f64 = 12.0 * D * D;

/// A method: its name, the multiply-adds of its adapters per token and rank, what they cost above that, and the
/// fixed cost of their steps in per cent of the smallest layer.
struct Method {
    name: &'static str,
    per_rank: f64,
    factor: f64,
    fixed: f64,
}

const METHODS: [Method; 4] = [
    // Two bottlenecks d → r → d in each layer, and one.
    Method { name: "adapter-h", per_rank: 4.0 * D, factor: 1.2, fixed: 24.0 },
    Method { name: "adapter-l", per_rank: 2.0 * D, factor: 1.2, fixed: 16.0 },
    // r·(K + N) of 1024 → 3072, 1024 → 1024, 1024 → 4096 and 4096 → 1024.
    Method { name: "lora-unfused", per_rank: 16.0 * D, factor: 1.3, fixed: 9.0 },
    Method { name: "lora-fused", per_rank: 16.0 * D, factor: 1.02, fixed: 0.5 },
];

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("usage: made-up-layer FILE")?;
    let mut file = RunFile::create(path)?;
    let mut records = Vec::new();
    let mut noise = Noise(0x5eed);
    for (ordinal, cell) in grid().enumerate() {
        if cell.rank == 0 {
            records.push(record(cell, ordinal, "none", None, 0.0)?);
        }
        for method in &METHODS {
            let floor = 100.0 * method.per_rank * cell.rank as f64 / PRODUCTS;
            let fixed = if cell.rank == 0 { 0.0 } else { method.fixed / (cell.m() as f64 / 128.0).sqrt() };
            let slowdown = round(method.factor * floor + fixed + noise.next(), 3);
            records.push(record(cell, ordinal, method.name, Some(slowdown), floor)?);
        }
    }
    file.put(&records)?;
    Ok(())
}

fn record(
    cell: Cell,
    ordinal: usize,
    method: &str,
    slowdown: Option<f64>,
    floor: f64,
) -> Result<Record, Box<dyn Error>> {
    // The products, and causal attention.
    let mul_adds = PRODUCTS + cell.seq_len as f64 * D;
    let base_ns = 2.0 * cell.m() as f64 * mul_adds / 160.0;
    let time_ns = round(base_ns * (1.0 + slowdown.unwrap_or_default() / 100.0), 1);
    Ok(Record {
        run: "made-up".to_owned(),
        workload: "gpt2-medium-layer".to_owned(),
        backend: "cpu".to_owned(),
        device: "fixture".to_owned(),
        threads: Some(2),
        simd: "avx2".to_owned(),
        driver: String::new(),
        clock_mhz: None,
        cache: "cold".to_owned(),
        dtype: "f16".to_owned(),
        method: method.to_owned(),
        d_in: "1024+1024+1024+4096".to_owned(),
        d_out: "3072+1024+4096+1024".to_owned(),
        seq_len: cell.seq_len,
        batch: cell.batch,
        rank: cell.rank,
        adapters: 1,
        time_ns,
        time_lo_ns: Some(round(time_ns * 0.99, 1)),
        time_hi_ns: Some(round(time_ns * 1.01, 1)),
        slowdown_pct: slowdown,
        slowdown_lo_pct: slowdown.map(|slowdown| round(slowdown - 0.4, 3)),
        slowdown_hi_pct: slowdown.map(|slowdown| round(slowdown + 0.6, 3)),
        floor_pct: slowdown.map(|_| round(floor, 4)),
        floor_pad_pct: slowdown.map(|_| round(floor * 1.05, 4)),
        limit_ns: Some(round(0.8 * base_ns * (1.0 + floor / 100.0), 1)),
        gflops: Some(round(160.0 * base_ns * (1.0 + floor / 100.0) / time_ns, 2)),
        samples: 20,
        repeated: ordinal % 3,
        ratio_by: Clock::Wall,
        commit: "unknown".to_owned(),
        dirty: false,
        measured_at: instant(ordinal)?,
    })
}

fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// One cell every two seconds.
fn instant(ordinal: usize) -> Result<Timestamp, Box<dyn Error>> {
    let seconds = 2 * ordinal;
    Ok(format!("2026-01-02T00:{:02}:{:02}Z", seconds / 60, seconds % 60).parse()?)
}

/// Numbers between −0.5 and 0.5, the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1 << 24) - 0.5
    }
}

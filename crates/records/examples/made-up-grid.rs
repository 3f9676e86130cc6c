//! Writes a whole grid of made-up numbers, for tests and for looking at the figure without a measurement:
//!
//! ```text
//! cargo run -p fused-lora-records --example made-up-grid -- FILE [WORKLOAD]
//! ```
//!
//! Nothing here is a measurement. The times follow a simple model (160 GFLOP/s of a peak of 200, the floor
//! times a factor, a fixed cost for each extra product or for an adapter's steps) with some noise that is the
//! same each time; so do the repeated rounds, and the cells whose ratios are of CPU times. The device is
//! "fixture".

use std::error::Error;

use fused_lora_records::{Cell, Clock, Record, RunFile, Workload, grid};

/// Width of GPT-2 medium.
const D: f64 = 1024.0;
/// Multiply-adds of its layer's four products per token, which floors are counted against.
const PRODUCTS: f64 = 12.0 * D * D;

/// What is done to a transformer's layer: the multiply-adds of the adapters per token and rank, what they
/// cost above that, and the fixed cost of their steps in per cent of the smallest layer.
const ADAPTERS: [(&str, f64, f64, f64); 4] = [
    // Two bottlenecks d → r → d in each layer, and one.
    ("adapter-h", 4.0 * D, 1.2, 24.0),
    ("adapter-l", 2.0 * D, 1.2, 16.0),
    // r·(K + N) of 1024 → 3072, 1024 → 1024, 1024 → 4096 and 4096 → 1024.
    ("lora-unfused", 16.0 * D, 1.3, 9.0),
    ("lora-fused", 16.0 * D, 1.02, 0.5),
];

/// A method at a cell, its floor and slow-down; none for the base.
type Method = (&'static str, f64, Option<f64>);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: made-up-grid FILE [WORKLOAD]")?;
    let name = arguments.next().unwrap_or_else(|| Workload::LINEARS[0].name().to_owned());
    let workload = Workload::by_name(&name)?;
    let mut file = RunFile::create(path)?;
    let mut records = Vec::new();
    let mut noise = Noise(0x5eed);
    for (ordinal, cell) in grid().enumerate() {
        let methods = match workload.layers() {
            Some(_) => layer(cell, &mut noise),
            None => linears(workload, cell, &mut noise),
        };
        for method in methods {
            records.push(record(workload, cell, ordinal, method)?);
        }
    }
    file.put(&records)?;
    Ok(())
}

fn linears(workload: &Workload, cell: Cell, noise: &mut Noise) -> Vec<Method> {
    let floor = workload.floor_pct(cell.rank);
    // Each extra product of `unfused` costs a fixed time and reads x or y once more.
    let launch = 2e6 / (workload.flops_base(cell.m()) / 160.0) + 3.0;
    let mut slowdown = |modelled: f64| round(if cell.rank == 0 { 0.0 } else { modelled } + noise.next(), 3);
    // Its noise is drawn all the same.
    let base = (cell.rank == 0).then(|| (slowdown(0.0), ("base", floor, None)).1);
    let unfused = ("unfused", floor, Some(slowdown(1.4 * floor + launch)));
    let fused = ("fused", floor, Some(slowdown(1.03 * floor + 0.4)));
    base.into_iter().chain([unfused, fused]).collect()
}

fn layer(cell: Cell, noise: &mut Noise) -> Vec<Method> {
    let adapted = ADAPTERS.map(|(name, per_rank, factor, fixed)| {
        let floor = 100.0 * per_rank * cell.rank as f64 / PRODUCTS;
        let fixed = if cell.rank == 0 { 0.0 } else { fixed / (cell.m() as f64 / 128.0).sqrt() };
        (name, floor, Some(round(factor * floor + fixed + noise.next(), 3)))
    });
    (cell.rank == 0).then_some(("none", 0.0, None)).into_iter().chain(adapted).collect()
}

fn record(
    workload: &Workload,
    cell: Cell,
    ordinal: usize,
    (method, floor, slowdown): Method,
) -> Result<Record, Box<dyn Error>> {
    let is_layer = workload.layers().is_some();
    // Of a layer, the products and causal attention.
    let attention = if is_layer { 2.0 * cell.m() as f64 * cell.seq_len as f64 * D } else { 0.0 };
    let base_ns = (workload.flops_base(cell.m()) + attention) / 160.0;
    let time_ns = round(base_ns * (1.0 + slowdown.unwrap_or_default() / 100.0), 1);
    let (below, above) = if is_layer { (0.4, 0.6) } else { (0.5, 0.5) };
    let (floor_pct, floor_pad_pct) = if is_layer {
        (slowdown.map(|_| round(floor, 4)), slowdown.map(|_| round(floor * 1.05, 4)))
    } else {
        (Some(floor), Some(workload.floor_pad_pct(cell.rank, 8, 1)))
    };
    // One cell every two seconds, the layer's a day later.
    let (day, seconds) = (1 + usize::from(is_layer), 2 * ordinal);
    Ok(Record {
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
        slowdown_pct: slowdown,
        slowdown_lo_pct: slowdown.map(|slowdown| round(slowdown - below, 3)),
        slowdown_hi_pct: slowdown.map(|slowdown| round(slowdown + above, 3)),
        floor_pct,
        floor_pad_pct,
        limit_ns: Some(round(0.8 * base_ns * (1.0 + floor / 100.0), 1)),
        gflops: Some(round(160.0 * base_ns * (1.0 + floor / 100.0) / time_ns, 2)),
        samples: if is_layer { 20 } else { 30 },
        repeated: ordinal % if is_layer { 3 } else { 4 },
        ratio_by: if !is_layer && ordinal % 24 == 5 { Clock::Cpu } else { Clock::Wall },
        commit: "unknown".to_owned(),
        dirty: false,
        measured_at: format!("2026-01-0{day}T00:{:02}:{:02}Z", seconds / 60, seconds % 60).parse()?,
    })
}

fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// Numbers between −0.5 and 0.5, the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / f64::from(1 << 24) - 0.5
    }
}

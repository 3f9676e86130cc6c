//! A layer with an adapter, applied to a batch; then the same layer with another adapter and with none.
//!
//! `cargo run --release -p fused-lora --example forward`

use std::time::Instant;

use fused_lora::{
    Strategy,
    cpu::{Adapter, Layer, Workspace},
};
use half::f16;
use ndarray::Array2;

fn main() -> Result<(), fused_lora::Error> {
    let (m, n, k) = (512, 1024, 1024);
    let layer = Layer::new(pattern(n, k, 1).view())?; // packs W, once
    let adapter =
        |rank, seed| Adapter::new(pattern(rank, k, seed).view(), pattern(n, rank, seed + 1).view(), 2.0);

    let x = pattern(m, k, 4);
    let mut y = Array2::zeros((m, n));
    let mut workspace = Workspace::new(); // belongs to the caller; keep it from call to call

    let mut layer = layer.with_adapter(adapter(10, 5)?)?;
    for rank in [10, 100, 250] {
        layer.set_adapter(Some(adapter(rank, 5)?))?; // W is not packed again
        // The first call of a size allocates, later ones do not.
        layer.call(x.view()).run(y.view_mut(), &mut workspace)?;
        // Round by round in turn, so that whatever slows the machine down slows all of them down.
        let mut slowdowns = [Vec::new(), Vec::new()];
        for _ in 0..51 {
            let mut time = |strategy| -> Result<f64, fused_lora::Error> {
                let start = Instant::now();
                layer.call(x.view()).strategy(strategy).run(y.view_mut(), &mut workspace)?;
                Ok(start.elapsed().as_secs_f64())
            };
            let base = time(Strategy::Base)?;
            slowdowns[0].push(100.0 * (time(Strategy::Unfused)? / base - 1.0));
            slowdowns[1].push(100.0 * (time(Strategy::Fused)? / base - 1.0));
        }
        let [unfused, fused] = slowdowns.map(median);
        let floor = layer.problem(m).floor_pct();
        println!(
            "rank {rank:3}: unfused {unfused:+.1} %, fused {fused:+.1} % slower than the base \
             (floor {floor:+.1} %)"
        );
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Something that is not constant.
fn pattern(rows: usize, columns: usize, seed: usize) -> Array2<f16> {
    Array2::from_shape_fn((rows, columns), |(i, j)| {
        let hash = (i * columns + j + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        f16::from_f32((hash % 1000) as f32 / 8000.0 - 0.0625)
    })
}

//! How much of a forward pass of GPT-2 medium's layer its products are, at M = 2048 tokens.
//!
//!     cargo run --release -p fused-lora-transformer --example share
//!
//! *Products alone* are the layer's four with neither bias nor GELU nor residual, on matrices of the same
//! sizes; they and the layer run in turn, and the share is the median over rounds of the ratio within a
//! round. The stages are medians too.

use std::time::Instant;

use fused_lora::cpu::{self, Simd};
use fused_lora_transformer::{
    Config, Error, LayerWeights,
    cpu::{Layer, Workspace},
};
use half::f16;
use ndarray::Array2;

const M: usize = 2048;
const ROUNDS: usize = 9;

fn main() -> Result<(), Error> {
    let config = Config::GPT2_MEDIUM_LAYER;
    let weights = LayerWeights::random(config, 1)?;
    let layer = Layer::new(&Simd::detect()?, config, &weights)?;
    let mut workspace = Workspace::new();
    let matrix = |columns| {
        Array2::from_shape_fn((M, columns), |(i, j)| {
            f16::from_f32(((i * 31 + j * 17) % 23) as f32 / 8.0 - 1.4)
        })
    };
    let (x, mut y) = (matrix(config.d), matrix(config.d));

    let mut products = Vec::new();
    for weights in [&weights.qkv, &weights.proj, &weights.up, &weights.down] {
        let product = cpu::Layer::new(weights.weight.view())?;
        let (x, y) = (matrix(product.in_features()), matrix(product.out_features()));
        products.push((product, x, y));
    }
    let mut scratch = cpu::Workspace::new();

    for seq_len in [128, 256, 512, 1024] {
        let mut shares = Vec::new();
        let mut times = Vec::new();
        let mut stages: Vec<(String, Vec<f64>)> = Vec::new();
        for round in 0..=ROUNDS {
            let start = Instant::now();
            for (product, x, y) in &mut products {
                product.call(x.view()).run(y.view_mut(), &mut scratch)?;
            }
            let alone = start.elapsed().as_secs_f64();

            let start = Instant::now();
            let (mut last, mut place) = (0.0, 0);
            let mut lap = |name: String| {
                let now = start.elapsed().as_secs_f64();
                if stages.len() == place {
                    stages.push((name, Vec::new()));
                }
                // The first round warms up.
                if round > 0 {
                    stages[place].1.push(now - last);
                }
                (last, place) = (now, place + 1);
            };
            layer.forward_observed(x.view(), seq_len, y.view_mut(), &mut workspace, &(), |stage, _| {
                lap(format!("{stage:?}"));
                Ok(())
            })?;
            lap("Output".into());
            let forward = start.elapsed().as_secs_f64();
            if round > 0 {
                shares.push(alone / forward);
                times.push(forward);
            }
        }
        let time = median(&mut times);
        let gflops =
            2e-9 * (config.product_mul_adds() + config.attention_mul_adds(seq_len)) * M as f64 / time;
        let share = 100.0 * median(&mut shares);
        println!(
            "seq_len {seq_len:4}: {:.1} ms, {gflops:.0} GFLOP/s with attention's; products alone {share:.1} \
             % of it",
            1e3 * time
        );
        let stages = stages.iter_mut().map(|(name, times)| format!("{name} {:.1}", 1e3 * median(times)));
        println!("  ms: {}", stages.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

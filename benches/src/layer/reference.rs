//! The layer again, in f32 and without anything of this library: whole matrices, one after another, from the weights as they are.
//!
//! Products are `ndarray`'s `dot`, softmax and LayerNorm run in f64, nothing is rounded to f16 in between.

use fused_lora_transformer::{
    AdapterWeights, BottleneckWeights, Config, LayerWeights, LinearWeights, LoraTargets, LoraWeights,
    NormWeights,
};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ndarray::{Array1, Array2, ArrayBase, ArrayView2, Data, Dimension, s};
use rayon::prelude::*;

use super::sequences::{DISTINCT, Sequences};
use super::variant::Variant;
use super::weights::Weights;

const EPSILON: f64 = 1e-5;

/// y of each of the sequences' first `seq_len` tokens: [`seq_len`, d].
///
/// # Panics
///
/// If the weights have no adapters for the variant.
#[must_use]
pub fn forward(
    weights: &Weights,
    variant: Variant,
    sequences: &Sequences,
    seq_len: usize,
) -> [Array2<f32>; DISTINCT] {
    let adapters = weights.adapters(variant);
    let mut y: Vec<Array2<f32>> = (0..DISTINCT).map(|which| wide(&sequences.first(which, seq_len))).collect();
    for (layer, adapters) in weights.layers().iter().zip(&adapters) {
        y = y.par_iter().map(|x| of_layer(weights.config(), layer, adapters, x)).collect();
    }
    y.try_into().expect("as many as there were")
}

/// One layer on one sequence, x: [`seq_len`, d].
#[must_use]
pub fn of_layer(
    config: Config,
    layer: &LayerWeights,
    adapters: &AdapterWeights,
    x: &Array2<f32>,
) -> Array2<f32> {
    let d = config.d;
    let normed = norm(x, &layer.norm1);
    let mut qkv = linear(&normed, &layer.qkv);
    let mut lora_of = [None; 3];
    if let AdapterWeights::Lora { targets, .. } = adapters {
        match targets {
            LoraTargets::All { qkv: on_qkv, proj, up, down } => {
                qkv += &lora(&normed, on_qkv);
                lora_of = [Some(proj), Some(up), Some(down)];
            }
            LoraTargets::QueryValue { query, value } => {
                let mut of = qkv.slice_mut(s![.., ..d]);
                of += &lora(&normed, query);
                let mut of = qkv.slice_mut(s![.., 2 * d..]);
                of += &lora(&normed, value);
            }
        }
    }
    let [on_proj, on_up, on_down] = lora_of;
    let product = |x: &Array2<f32>, weights: &LinearWeights, adapter: Option<&LoraWeights>| {
        let y = linear(x, weights);
        adapter.map_or_else(|| y.clone(), |adapter| &y + &lora(x, adapter))
    };

    let mut branch = product(&attention(&qkv, config.heads), &layer.proj, on_proj);
    if let AdapterWeights::H { attention, .. } = adapters {
        branch = &branch + &bottleneck(&branch, attention);
    }
    let middle = x + &branch;

    let hidden = gelu(product(&norm(&middle, &layer.norm2), &layer.up, on_up));
    let mut branch = product(&hidden, &layer.down, on_down);
    if let AdapterWeights::H { mlp, .. } = adapters {
        branch = &branch + &bottleneck(&branch, mlp);
    }
    let y = middle + branch;
    match adapters {
        AdapterWeights::L { norm: before, bottleneck: adapter } => {
            &y + &bottleneck(&norm(&y, before), adapter)
        }
        _ => y,
    }
}

fn wide<S: Data<Elem = f16>, D: Dimension>(values: &ArrayBase<S, D>) -> ndarray::Array<f32, D> {
    let values = values.as_standard_layout();
    let mut wide = ndarray::Array::zeros(values.raw_dim());
    let to = wide.as_slice_mut().expect("a new array is in standard layout");
    values.as_slice().expect("just made so").convert_to_f32_slice(to);
    wide
}

fn linear(x: &Array2<f32>, weights: &LinearWeights) -> Array2<f32> {
    x.dot(&wide(&weights.weight).t()) + &wide(&weights.bias)
}

fn lora(x: &Array2<f32>, weights: &LoraWeights) -> Array2<f32> {
    x.dot(&wide(&weights.a).t()).dot(&wide(&weights.b).t()) * weights.scale
}

fn bottleneck(x: &Array2<f32>, weights: &BottleneckWeights) -> Array2<f32> {
    linear(&gelu(linear(x, &weights.down)), &weights.up)
}

fn norm(x: &Array2<f32>, weights: &NormWeights) -> Array2<f32> {
    let (gamma, beta) = (wide(&weights.gamma), wide(&weights.beta));
    let mut y = x.clone();
    for mut row in y.outer_iter_mut() {
        let values: Array1<f64> = row.mapv(f64::from);
        let mean = values.sum() / values.len() as f64;
        let variance = values.mapv(|value| (value - mean).powi(2)).sum() / values.len() as f64;
        let normal = values.mapv(|value| ((value - mean) / (variance + EPSILON).sqrt()) as f32);
        row.assign(&(normal * &gamma + &beta));
    }
    y
}

fn gelu(x: Array2<f32>) -> Array2<f32> {
    let factor = (2.0 / std::f32::consts::PI).sqrt();
    x.mapv_into(|x| 0.5 * x * (1.0 + (factor * (x + 0.044_715 * x * x * x)).tanh()))
}

/// Causal, `qkv: [seq_len, 3 d]` → [`seq_len`, d].
fn attention(qkv: &Array2<f32>, heads: usize) -> Array2<f32> {
    let (seq_len, d) = (qkv.nrows(), qkv.ncols() / 3);
    let width = d / heads;
    let mut y = Array2::zeros((seq_len, d));
    for head in 0..heads {
        let columns = |part: usize| s![.., part * d + head * width..part * d + (head + 1) * width];
        let [q, k, v]: [ArrayView2<'_, f32>; 3] = std::array::from_fn(|part| qkv.slice(columns(part)));
        let mut weights = q.dot(&k.t()) / (width as f32).sqrt();
        for (token, mut row) in weights.outer_iter_mut().enumerate() {
            let (seen, mut hidden) = row.view_mut().split_at(ndarray::Axis(0), token + 1);
            hidden.fill(0.0);
            softmax(seen);
        }
        y.slice_mut(columns(0)).assign(&weights.dot(&v));
    }
    y
}

fn softmax(mut row: ndarray::ArrayViewMut1<'_, f32>) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials = row.mapv(|value| f64::from(value - largest).exp());
    let sum = exponentials.sum();
    row.assign(&exponentials.mapv(|value| (value / sum) as f32));
}

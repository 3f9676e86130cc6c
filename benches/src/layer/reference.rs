//! The layer again, in f32 and without anything of this library: whole matrices, one after another, from the
//! weights as they are.
//!
//! Products are `ndarray`'s `dot`, softmax and LayerNorm run in f64, nothing is rounded to f16 in between.

use fused_lora_transformer::{
    AdapterWeights, BottleneckWeights, LayerWeights, LinearWeights, LoraTargets, LoraWeights, NormWeights,
};
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ndarray::{Array, Array1, Array2, ArrayBase, ArrayViewMut1, Axis, Data, Dimension, concatenate, s};
use rayon::prelude::*;

use super::variant::Variant;
use super::weights::Weights;

const EPSILON: f64 = 1e-5;

/// y of the first `seq_len` tokens of each sequence, one after another: [sequences · `seq_len`, d].
pub(super) fn forward(weights: &Weights, variant: Variant, seq_len: usize) -> Array2<f32> {
    let first = |sequence| wide(&weights.sequences.slice(s![sequence, ..seq_len, ..]));
    let mut y: Vec<Array2<f32>> = (0..weights.sequences.len_of(Axis(0))).map(first).collect();
    for (layer, adapters) in weights.layers.iter().zip(&weights.adapters(variant)) {
        y = y.par_iter().map(|x| of_layer(weights.config.heads, layer, adapters, x)).collect();
    }
    let y: Vec<_> = y.iter().map(|y| y.view()).collect();
    concatenate(Axis(0), &y).expect("they have the same width")
}

/// One layer on one sequence, x: [`seq_len`, d].
fn of_layer(heads: usize, layer: &LayerWeights, adapters: &AdapterWeights, x: &Array2<f32>) -> Array2<f32> {
    let d = x.ncols();
    let normed = norm(x, &layer.norm1);
    let mut qkv = linear(&normed, &layer.qkv);
    let (mut loras, mut bottlenecks) = ([None; 3], [None; 2]);
    match adapters {
        AdapterWeights::Lora { targets: LoraTargets::All { qkv: on_qkv, proj, up, down }, .. } => {
            qkv += &lora(&normed, on_qkv);
            loras = [proj, up, down].map(Some);
        }
        AdapterWeights::Lora { targets: LoraTargets::QueryValue { query, value }, .. } => {
            qkv.slice_mut(s![.., ..d]).scaled_add(1.0, &lora(&normed, query));
            qkv.slice_mut(s![.., 2 * d..]).scaled_add(1.0, &lora(&normed, value));
        }
        AdapterWeights::H { attention, mlp } => bottlenecks = [attention, mlp].map(Some),
        AdapterWeights::L { .. } | AdapterWeights::None => {}
    }
    let product = |x: &Array2<f32>, weights, adapter: Option<&LoraWeights>| {
        let y = linear(x, weights);
        if let Some(adapter) = adapter { y + lora(x, adapter) } else { y }
    };
    let adapted = |branch: Array2<f32>, adapter: Option<&BottleneckWeights>| {
        if let Some(adapter) = adapter { &branch + &bottleneck(&branch, adapter) } else { branch }
    };

    let branch = product(&attention(&qkv, heads), &layer.proj, loras[0]);
    let middle = x + &adapted(branch, bottlenecks[0]);
    let hidden = gelu(product(&norm(&middle, &layer.norm2), &layer.up, loras[1]));
    let y = middle + adapted(product(&hidden, &layer.down, loras[2]), bottlenecks[1]);
    match adapters {
        AdapterWeights::L { norm: before, bottleneck: after } => &y + &bottleneck(&norm(&y, before), after),
        _ => y,
    }
}

fn wide<S: Data<Elem = f16>, D: Dimension>(values: &ArrayBase<S, D>) -> Array<f32, D> {
    let mut wide = Array::zeros(values.raw_dim());
    let to = wide.as_slice_mut().expect("a new array is in standard layout");
    values.as_slice().expect("weights and tokens are, too").convert_to_f32_slice(to);
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
        let [q, k, v] = [0, 1, 2].map(|part| qkv.slice(columns(part)));
        let mut weights = q.dot(&k.t()) / (width as f32).sqrt();
        for (token, mut row) in weights.outer_iter_mut().enumerate() {
            let (seen, mut hidden) = row.view_mut().split_at(Axis(0), token + 1);
            hidden.fill(0.0);
            softmax(seen);
        }
        y.slice_mut(columns(0)).assign(&weights.dot(&v));
    }
    y
}

fn softmax(mut row: ArrayViewMut1<'_, f32>) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials = row.mapv(|value| f64::from(value - largest).exp());
    let sum = exponentials.sum();
    row.assign(&exponentials.mapv(|value| (value / sum) as f32));
}

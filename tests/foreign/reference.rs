//! What each operation computes, in f64.

use std::collections::BTreeMap;

use crate::manifest::{Expect, Matmul, Operation};

/// Arrays as they were filled, by name; those that nobody wrote are empty.
pub(crate) type Arrays = BTreeMap<String, Vec<f64>>;

/// The exact output.
pub(crate) fn expected(expect: &Expect, arrays: &Arrays) -> Vec<f64> {
    let array = |name: &String| arrays[name].as_slice();
    match &expect.operation {
        Operation::Matmul(matmul) => product(matmul, [false, false], arrays),
        Operation::MatmulAt(matmul) => product(matmul, [true, false], arrays),
        Operation::MatmulBt(matmul) => product(matmul, [false, true], arrays),
        Operation::MatmulAtBt(matmul) => product(matmul, [true, true], arrays),
        Operation::Shrink { x, w, starts, adapters, scale, k, rank } => {
            let segments = segments(array(starts), array(adapters));
            by_adapter(array(x), array(w), [*k, *rank], &segments, *scale, array(&expect.output))
        }
        Operation::Expand { h, w, starts, adapters, n, rank } => {
            let segments = segments(array(starts), array(adapters));
            by_adapter(array(h), array(w), [*rank, *n], &segments, 1.0, array(&expect.output))
        }
        Operation::Attention { q, k, v, scale, causal, t, dim } => {
            attention([array(q), array(k), array(v)], *scale, *causal, *t, *dim)
        }
        Operation::LayerNorm { x, weight, bias, epsilon, n } => array(x)
            .chunks(*n)
            .flat_map(|row| layer_norm(row, array(weight), array(bias), *epsilon))
            .collect(),
        Operation::Softmax { x, n } => array(x).chunks(*n).flat_map(softmax).collect(),
        Operation::PrefixSum { x, n } => array(x).chunks(*n).flat_map(prefix_sum).collect(),
    }
}

/// a b, where `transposed` says that a is stored as \[k, m\], and b as \[n, k\].
fn product(matmul: &Matmul, transposed: [bool; 2], arrays: &Arrays) -> Vec<f64> {
    let &Matmul { m, n, k, batch, .. } = matmul;
    let (a, b) = (&arrays[&matmul.a], &arrays[&matmul.b]);
    let scale = matmul.scale_k.as_ref().map(|name| &arrays[name]);
    let mut out = vec![0.0; batch * m * n];
    for (index, out) in out.iter_mut().enumerate() {
        let (batch, i, j) = (index / (m * n), index / n % m, index % n);
        let (a, b) = (&a[batch * m * k..], &b[batch * n * k..]);
        let term = |l: usize| {
            let a = if transposed[0] { a[l * m + i] } else { a[i * k + l] };
            let b = if transposed[1] { b[j * k + l] } else { b[l * n + j] };
            a * b * scale.map_or(1.0, |scale| scale[l])
        };
        *out = (0..k).map(term).sum();
    }
    out
}

/// A run of tokens with one adapter.
struct Segment {
    start: usize,
    end: usize,
    adapter: usize,
}

/// The segments that have an adapter.
fn segments(starts: &[f64], adapters: &[f64]) -> Vec<Segment> {
    let with_adapter = adapters.iter().enumerate().filter(|(_, adapter)| **adapter >= 0.0);
    with_adapter
        .map(|(at, &adapter)| Segment {
            start: starts[at] as usize,
            end: starts[at + 1] as usize,
            adapter: adapter as usize,
        })
        .collect()
}

/// `before` + scale x w^T for the tokens of each segment, w being its adapter's \[n, k\].
fn by_adapter(
    x: &[f64],
    w: &[f64],
    [k, n]: [usize; 2],
    segments: &[Segment],
    scale: f64,
    before: &[f64],
) -> Vec<f64> {
    let mut out = before.to_vec();
    for segment in segments {
        for (token, j) in (segment.start..segment.end).flat_map(|token| (0..n).map(move |j| (token, j))) {
            let x = &x[token * k..][..k];
            let w = &w[(segment.adapter * n + j) * k..][..k];
            out[token * n + j] += scale * dot(x, w);
        }
    }
    out
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// softmax(scale q k^T) v of each head.
fn attention([q, k, v]: [&[f64]; 3], scale: f64, causal: bool, t: usize, dim: usize) -> Vec<f64> {
    let mut out = vec![0.0; q.len()];
    for (head, out) in out.chunks_mut(t * dim).enumerate() {
        let [q, k, v] = [q, k, v].map(|array| &array[head * t * dim..][..t * dim]);
        for (i, out) in out.chunks_mut(dim).enumerate() {
            let keys = if causal { i + 1 } else { t };
            let score = |j: usize| scale * dot(&q[i * dim..][..dim], &k[j * dim..][..dim]);
            let weights = softmax(&(0..keys).map(score).collect::<Vec<_>>());
            for (weight, v) in weights.iter().zip(v.chunks(dim)) {
                out.iter_mut().zip(v).for_each(|(out, v)| *out += weight * v);
            }
        }
    }
    out
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = x.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn layer_norm(x: &[f64], weight: &[f64], bias: &[f64], epsilon: f64) -> Vec<f64> {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + epsilon).sqrt();
    x.iter().zip(weight).zip(bias).map(|((x, weight), bias)| (x - mean) * scale * weight + bias).collect()
}

fn prefix_sum(x: &[f64]) -> Vec<f64> {
    let add = |sum: &mut f64, x: &f64| {
        *sum += x;
        Some(*sum)
    };
    x.iter().scan(0.0, add).collect()
}

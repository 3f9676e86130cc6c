//! Causal attention in f64, for tests of both backends.

#![allow(dead_code, reason = "each test file uses a part of it")]

use half::f16;
use ndarray::Array2;

use super::common::{normal, rng};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) sequences: usize,
    pub(crate) seq_len: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

/// An element of y.
pub(crate) struct Element {
    /// Row and column.
    pub(crate) at: [usize; 2],
    /// Σ weight · v.
    pub(crate) value: f64,
    /// Σ weight · |v|.
    pub(crate) magnitude: f64,
    /// Σ |v| over the keys that its query sees.
    pub(crate) values: f64,
    /// Σ exp(score − the largest score).
    pub(crate) total: f64,
}

impl Shape {
    pub(crate) const fn new(sequences: usize, seq_len: usize, heads: usize, head_dim: usize) -> Self {
        Self { sequences, seq_len, heads, head_dim }
    }

    pub(crate) fn rows(self) -> usize {
        self.sequences * self.seq_len
    }

    pub(crate) fn width(self) -> usize {
        self.heads * self.head_dim
    }

    /// Scores of a few units, so that some weights are near 1 and others near 0.
    pub(crate) fn qkv(self, seed: u64) -> Array2<f16> {
        normal(&mut rng(seed), self.rows(), 3 * self.width(), 1.3)
    }

    /// All elements of y, row by row and head by head.
    pub(crate) fn attention(self, qkv: &Array2<f16>) -> Vec<Element> {
        let Self { seq_len, heads, head_dim, .. } = self;
        let mut elements = Vec::new();
        for (row, head) in (0..self.rows()).flat_map(|row| (0..heads).map(move |head| (row, head))) {
            let at = |row: usize, part: usize, column: usize| {
                qkv[[row, part * self.width() + head * head_dim + column]].to_f64()
            };
            let keys = row / seq_len * seq_len..=row;
            let score = |key: usize| {
                (0..head_dim).map(|c| at(row, 0, c) * at(key, 1, c)).sum::<f64>() / (head_dim as f64).sqrt()
            };
            let scores: Vec<f64> = keys.clone().map(score).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
            let total: f64 = weights.iter().sum();
            for column in 0..head_dim {
                let sum = |of: &dyn Fn(f64, f64) -> f64| -> f64 {
                    keys.clone().zip(&weights).map(|(key, &weight)| of(weight, at(key, 2, column))).sum()
                };
                elements.push(Element {
                    at: [row, head * head_dim + column],
                    value: sum(&|weight, v| weight * v) / total,
                    magnitude: sum(&|weight, v| weight * v.abs()) / total,
                    values: sum(&|_, v| v.abs()),
                    total,
                });
            }
        }
        elements
    }
}

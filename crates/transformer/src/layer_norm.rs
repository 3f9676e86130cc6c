//! LayerNorm: `(x − mean) / √(variance + ε) · gamma + beta`, row by row.
//!
//! Plain loops that LLVM turns into vectors. A row is read three times, for mean, variance and result, each
//! time widened in pieces on the stack: it stays in the first-level cache, and the variance is computed from
//! the differences to the mean, not as a difference of squares.

use half::{f16, slice::HalfFloatSliceExt};
use ndarray::{Array1, ArrayView2};
use rayon::prelude::*;

use crate::weights::NormWeights;

/// GPT-2's.
const EPSILON: f32 = 1e-5;
/// Elements that are widened at a time.
const PIECE: usize = 64;
/// Partial sums, so that LLVM may use vectors.
const LANES: usize = 16;
/// Rows of a task: some 10 µs for 1024 columns.
const ROWS: usize = 16;

/// LayerNorm with its weights in f32.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl LayerNorm {
    pub(crate) fn new(weights: &NormWeights) -> Self {
        let wide = |from: &Array1<f16>| from.iter().map(|value| value.to_f32()).collect();
        Self { gamma: wide(&weights.gamma), beta: wide(&weights.beta) }
    }

    /// `y: [M, d]`, adjacent rows, from `x: [M, d]`, rows any distance apart, columns adjacent. On the
    /// threads of the current rayon pool.
    pub(crate) fn forward(&self, x: ArrayView2<'_, f16>, y: &mut [f16]) {
        let d = self.gamma.len();
        y.par_chunks_mut(ROWS * d).enumerate().for_each(|(task, rows)| {
            for (i, y) in rows.chunks_mut(d).enumerate() {
                let x = x.row(task * ROWS + i);
                self.row(x.to_slice().expect("columns are adjacent"), y);
            }
        });
    }

    fn row(&self, x: &[f16], y: &mut [f16]) {
        let d = x.len() as f32;
        let mean = sum(x, |value| value) / d;
        let variance = sum(x, |value| (value - mean) * (value - mean)) / d;
        let factor = 1.0 / (variance + EPSILON).sqrt();
        let mut piece = [0.0; PIECE];
        let weights = self.gamma.chunks(PIECE).zip(self.beta.chunks(PIECE));
        for ((x, y), (gamma, beta)) in x.chunks(PIECE).zip(y.chunks_mut(PIECE)).zip(weights) {
            let piece = &mut piece[..x.len()];
            x.convert_to_f32_slice(piece);
            for ((value, gamma), beta) in piece.iter_mut().zip(gamma).zip(beta) {
                *value = (*value - mean) * factor * gamma + beta;
            }
            y.convert_from_f32_slice(piece);
        }
    }
}

/// Σ f(x)
fn sum(x: &[f16], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut piece = [0.0; PIECE];
    for x in x.chunks(PIECE) {
        let piece = &mut piece[..x.len()];
        x.convert_to_f32_slice(piece);
        let (vectors, rest) = piece.as_chunks::<LANES>();
        for values in vectors.iter().map(|values| &values[..]).chain([rest]) {
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane += f(value);
            }
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, s};
    use rand::{SeedableRng, rngs::SmallRng};
    use rand_distr::{Distribution, Normal};

    use super::*;

    #[test]
    fn rows_of_any_width_and_any_number_agree_with_f64() {
        let mut rng = SmallRng::seed_from_u64(1);
        for (rows, d) in
            [(1, 1), (3, 15), (16, 16), (17, 17), (33, 63), (2, 64), (40, 65), (5, 1024), (1, 1030)]
        {
            // A mean far from zero: a difference of squares would lose the variance.
            let normal = Normal::new(20.0, 0.5).unwrap();
            let wide = Array2::from_shape_simple_fn((rows, d + 3), || f16::from_f32(normal.sample(&mut rng)));
            let x = wide.slice(s![.., 1..=d]);
            let vector =
                |from: f32| Array1::from_shape_fn(d, |i| f16::from_f32(from + (i % 7) as f32 / 10.0));
            let weights = NormWeights { gamma: vector(0.7), beta: vector(-0.3) };
            let norm = LayerNorm::new(&weights);
            let mut y = vec![f16::NAN; rows * d];
            norm.forward(x, &mut y);
            for (x, y) in x.outer_iter().zip(y.chunks(d)) {
                let x = x.mapv(f64::from);
                let mean = x.sum() / d as f64;
                let variance = x.mapv(|x| (x - mean).powi(2)).sum() / d as f64;
                for (i, y) in y.iter().enumerate() {
                    let normalized = (x[i] - mean) / (variance + f64::from(EPSILON)).sqrt();
                    let expected = normalized * weights.gamma[i].to_f64() + weights.beta[i].to_f64();
                    // Rounded once; the f32 mean of numbers near 20 is off by some 10⁻⁵.
                    let tolerance = expected.abs() / 1024.0 + 1e-4 / (variance + 1e-5).sqrt().min(1.0);
                    assert!((y.to_f64() - expected).abs() <= tolerance, "d {d}: {y} is not {expected}");
                }
            }
        }
    }
}

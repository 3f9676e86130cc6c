//! x: two sequences, again and again over the batch. So each row of a y of any size is known from the y of those two.

use half::f16;
use ndarray::{Array2, ArrayView2, s};

use super::size::Size;
use crate::normals::Normals;

/// How many different sequences there are.
pub const DISTINCT: usize = 2;

const SEED: u64 = 3;

/// Two sequences of hidden states, N(0, 1).
pub struct Sequences {
    tokens: [Array2<f16>; DISTINCT],
}

impl Sequences {
    /// Sequences of up to `seq_len` tokens of width d.
    #[must_use]
    pub fn new(seq_len: usize, d: usize) -> Sequences {
        let mut normals = Normals::new(SEED);
        Sequences { tokens: std::array::from_fn(|_| normals.matrix(1.0, seq_len, d)) }
    }

    /// The first `seq_len` tokens of one of them: [`seq_len`, d].
    ///
    /// # Panics
    ///
    /// If it has not as many.
    #[must_use]
    pub fn first(&self, which: usize, seq_len: usize) -> ArrayView2<'_, f16> {
        self.tokens[which].slice(s![..seq_len, ..])
    }

    /// x of a size: [M, d].
    #[must_use]
    pub fn batch(&self, size: Size) -> Array2<f16> {
        let mut x = Array2::zeros((size.m(), self.tokens[0].ncols()));
        for (i, mut rows) in x.axis_chunks_iter_mut(ndarray::Axis(0), size.seq_len).enumerate() {
            rows.assign(&self.first(i % DISTINCT, size.seq_len));
        }
        x
    }

    /// All tokens of both.
    #[must_use]
    pub fn whole(&self) -> &[Array2<f16>; DISTINCT] {
        &self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_repeats_two_different_sequences() {
        let sequences = Sequences::new(8, 16);
        let x = sequences.batch(Size { seq_len: 5, batch: 3 });
        let of = |i: usize| x.slice(s![i * 5..(i + 1) * 5, ..]);
        assert_eq!((x.dim(), of(0)), ((15, 16), of(2)));
        assert_ne!(of(0), of(1));
        assert_eq!(of(1), sequences.first(1, 5));
        assert_eq!(sequences.first(1, 5), sequences.whole()[1].slice(s![..5, ..]));
    }
}

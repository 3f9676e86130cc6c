//! x: two sequences, again and again over the batch. So each row of a y of any size is known from the y of those two.

use half::f16;
use ndarray::{Array2, ArrayView2, s};

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

    /// Fills x, [M, d] in row-major order, with the first `seq_len` tokens of one and the other in turn.
    ///
    /// # Panics
    ///
    /// If x is no whole number of sequences.
    pub fn batch(&self, seq_len: usize, x: &mut [f16]) {
        for (i, sequence) in x.chunks_exact_mut(seq_len * self.tokens[0].ncols()).enumerate() {
            let tokens = self.tokens[i % DISTINCT].as_slice().expect("a new matrix is one slice");
            sequence.copy_from_slice(&tokens[..sequence.len()]);
        }
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
        let mut x = Array2::zeros((15, 16));
        sequences.batch(5, x.as_slice_mut().unwrap());
        let of = |i: usize| x.slice(s![i * 5..(i + 1) * 5, ..]);
        assert_eq!(of(0), of(2));
        assert_ne!(of(0), of(1));
        assert_eq!(of(1), sequences.first(1, 5));
        assert_eq!(sequences.first(1, 5), sequences.whole()[1].slice(s![..5, ..]));
    }
}

//! The softmax of a row whose scores come block by block. Milakov and Gimelshein 2018, arXiv 1805.02867.

use crate::{
    device::{ex2_approx, fma, rcp_approx, shfl_bfly},
    sm80::{chunks, fragments::Sums},
};

/// Lanes that share a row of a fragment.
const QUAD: u32 = 4;

/// Maximum and sum of the two rows that a lane has elements of.
#[derive(Clone, Copy)]
pub(super) struct Softmax {
    /// The largest score so far, in all lanes of the quad.
    max: [f32; 2],
    /// The sum of this lane's weights so far, relative to that.
    sum: [f32; 2],
}

impl Softmax {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { max: [f32::NEG_INFINITY; 2], sum: [0.0; 2] }
    }

    /// Makes weights of the next block's scores: 2 to the power of `scale` · (score − maximum). Gives what
    /// the sums of earlier blocks, made with a smaller maximum, must be multiplied by.
    ///
    /// A score of NaN is no maximum and gives a weight of NaN. Where all scores so far are −∞, as those of
    /// masked keys are, weights are 0.
    ///
    /// # Safety
    ///
    /// All lanes of the warp call it.
    #[inline(always)]
    pub(super) unsafe fn weigh<const NT: usize>(&mut self, scores: &mut Sums<1, NT>, scale: f32) -> [f32; 2] {
        let mut factors = [0.0; 2];
        let mut row = 0;
        while row < 2 {
            let mut max = self.max[row];
            let mut n = 0;
            while n < NT {
                max = max.max(scores.0[0][n][2 * row]).max(scores.0[0][n][2 * row + 1]);
                n += 1;
            }
            // SAFETY: the caller's contract.
            unsafe {
                max = max.max(f32::from_bits(shfl_bfly(max.to_bits(), 1)));
                max = max.max(f32::from_bits(shfl_bfly(max.to_bits(), 2)));
            }
            // −∞ − −∞ is NaN.
            let base = if max == f32::NEG_INFINITY { 0.0 } else { max * scale };
            let factor = ex2_approx(self.max[row] * scale - base);
            let mut sum = self.sum[row] * factor;
            let mut n = 0;
            while n < NT {
                let mut i = 2 * row;
                while i < 2 * row + 2 {
                    let weight = ex2_approx(fma(scores.0[0][n][i], scale, -base));
                    scores.0[0][n][i] = weight;
                    sum += weight;
                    i += 1;
                }
                n += 1;
            }
            (self.max[row], self.sum[row], factors[row]) = (max, sum, factor);
            row += 1;
        }
        factors
    }

    /// One over the sum of each row's weights.
    ///
    /// # Safety
    ///
    /// As [`weigh`](Self::weigh).
    #[inline(always)]
    pub(super) unsafe fn normalisers(&self) -> [f32; 2] {
        // SAFETY: the caller's contract.
        unsafe {
            [rcp_approx(chunks::sum_over(self.sum[0], QUAD)), rcp_approx(chunks::sum_over(self.sum[1], QUAD))]
        }
    }
}

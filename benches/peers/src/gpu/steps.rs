//! The products of one projection, one after the other, with what they work on.

use fused_lora_benches::linear::weights::SCALE;
use half::f16;
use ndarray::{Array2, s};

use crate::weights::Weights;

/// Ranks are rounded up to this: 8 f16 are the 16 bytes that cuBLASLt's f16 kernels load at a time.
const RANK_GRANULE: usize = 8;

/// The rank that the peer's A, B and h have, with zeros behind the adapter's own.
pub(super) fn padded(rank: usize) -> usize {
    rank.next_multiple_of(RANK_GRANULE)
}

/// A with zero rows, B with zero columns, so that both have the [`padded`] rank: what they add is 0.
pub(super) fn with_zeros(a: &Array2<f16>, b: &Array2<f16>) -> (Array2<f16>, Array2<f16>) {
    let ((rank, k), n) = (a.dim(), b.nrows());
    let (mut wide_a, mut wide_b) = (Array2::zeros((padded(rank), k)), Array2::zeros((n, padded(rank))));
    wide_a.slice_mut(s![..rank, ..]).assign(a);
    wide_b.slice_mut(s![.., ..rank]).assign(b);
    (wide_a, wide_b)
}

/// out ← α·x·wᵀ, or out ← α·x·wᵀ + out, of matrices without gaps between their rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Product {
    /// Rows of x and out.
    pub(super) m: usize,
    /// Rows of w, columns of out.
    pub(super) n: usize,
    /// Columns of x and w.
    pub(super) k: usize,
    /// Whether it is added to what is in out.
    pub(super) accumulates: bool,
}

impl Product {
    /// Operations, a multiply-add counted as two.
    pub(super) fn flops(&self) -> f64 {
        2.0 * self.m as f64 * self.n as f64 * self.k as f64
    }
}

/// One call.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) product: Product,
    /// BLAS's α.
    pub(super) alpha: f32,
    // Addresses on the device.
    pub(super) x: u64,
    pub(super) w: u64,
    pub(super) out: u64,
}

/// y = x·Wᵀ; and with an adapter h = s·x·Aᵀ, y += h·Bᵀ, where A, B and h have that padded rank.
pub(super) fn steps<T>(
    [x, h, y]: [u64; 3],
    m: usize,
    rank: usize,
    weights: &Weights<T>,
    address: impl Fn(&T) -> u64,
) -> Vec<Step> {
    let Weights { n, k, w, adapter } = weights;
    let product = |n, k, accumulates| Product { m, n, k, accumulates };
    let mut steps = vec![Step { product: product(*n, *k, false), alpha: 1.0, x, w: address(w), out: y }];
    if let Some((a, b)) = adapter {
        steps.push(Step { product: product(rank, *k, false), alpha: SCALE, x, w: address(a), out: h });
        steps.push(Step { product: product(*n, rank, true), alpha: 1.0, x: h, w: address(b), out: y });
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_padded_with_zeros_to_sixteen_bytes() {
        assert_eq!([0, 1, 8, 10, 100, 250].map(padded), [0, 8, 8, 16, 104, 256]);
        let a = Array2::from_shape_fn((3, 5), |(i, j)| f16::from_f32((1 + 5 * i + j) as f32));
        let b = Array2::from_shape_fn((4, 3), |(i, j)| f16::from_f32((1 + 3 * i + j) as f32));
        let (wide_a, wide_b) = with_zeros(&a, &b);
        assert_eq!((wide_a.dim(), wide_b.dim()), ((8, 5), (4, 8)));
        assert_eq!((wide_a.slice(s![..3, ..]), wide_b.slice(s![.., ..3])), (a.view(), b.view()));
        let zeros = |values: ndarray::ArrayView2<'_, f16>| values.iter().all(|value| *value == f16::ZERO);
        assert!(zeros(wide_a.slice(s![3.., ..])) && zeros(wide_b.slice(s![.., 3..])));
    }
}

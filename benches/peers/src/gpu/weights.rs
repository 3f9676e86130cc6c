//! W, A and B of one projection, as the peer has them: row after row, the adapter padded.

use std::rc::Rc;

use fused_lora::cuda::{Buffer, Device, Error};
use fused_lora_benches::linear::weights::Linear;
use half::f16;
use ndarray::{Array2, s};

use crate::gpu::steps::padded;

/// In device memory.
pub struct Weights {
    /// [n, k]
    pub w: Rc<Buffer>,
    /// [rank, k] and [n, rank], the rank [`padded`]; None for the base alone.
    pub adapter: Option<(Buffer, Buffer)>,
    /// Columns of y.
    pub n: usize,
    /// Columns of x.
    pub k: usize,
}

impl Weights {
    /// Those of a projection, whose W is there, with a copy of its adapter of that rank unless it is 0.
    ///
    /// # Errors
    ///
    /// If there is no memory for it.
    pub fn new<L>(device: &Device, linear: &Linear<L>, w: Rc<Buffer>, rank: usize) -> Result<Weights, Error> {
        let adapter = if rank == 0 {
            None
        } else {
            let (a, b) = with_zeros(&linear.adapter(rank).a, &linear.adapter(rank).b);
            Some((upload(device, &a)?, upload(device, &b)?))
        };
        let (n, k) = linear.w.dim();
        Ok(Weights { w, adapter, n, k })
    }
}

/// A copy of a matrix in device memory, a row after the other.
///
/// # Errors
///
/// If there is no memory for it.
///
/// # Panics
///
/// If its rows do not follow each other.
pub fn upload(device: &Device, matrix: &Array2<f16>) -> Result<Buffer, Error> {
    Buffer::from_slice(device, matrix.as_slice().expect("it is one row after another"))
}

/// A with zero rows, B with zero columns, so that both have the padded rank: what they add is 0.
fn with_zeros(a: &Array2<f16>, b: &Array2<f16>) -> (Array2<f16>, Array2<f16>) {
    let ((rank, k), n) = (a.dim(), b.nrows());
    let mut wide = (Array2::zeros((padded(rank), k)), Array2::zeros((n, padded(rank))));
    wide.0.slice_mut(s![..rank, ..]).assign(a);
    wide.1.slice_mut(s![.., ..rank]).assign(b);
    wide
}

/// The padded adapter on the host, for tests that have no device.
#[cfg(test)]
pub(super) fn on_host<L>(linear: &Linear<L>, rank: usize) -> (Array2<f16>, Array2<f16>) {
    with_zeros(&linear.adapter(rank).a, &linear.adapter(rank).b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_zero_and_the_rest_stays() {
        let a = Array2::from_shape_fn((3, 5), |(i, j)| f16::from_f32((1 + 5 * i + j) as f32));
        let b = Array2::from_shape_fn((4, 3), |(i, j)| f16::from_f32((1 + 3 * i + j) as f32));
        let (wide_a, wide_b) = with_zeros(&a, &b);
        assert_eq!((wide_a.dim(), wide_b.dim()), ((8, 5), (4, 8)));
        assert_eq!((wide_a.slice(s![..3, ..]), wide_b.slice(s![.., ..3])), (a.view(), b.view()));
        let zeros = |values: ndarray::ArrayView2<'_, f16>| values.iter().all(|value| *value == f16::ZERO);
        assert!(zeros(wide_a.slice(s![3.., ..])) && zeros(wide_b.slice(s![.., 3..])));
    }
}

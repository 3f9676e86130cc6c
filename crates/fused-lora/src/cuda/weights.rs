//! W on a device as the kernels want it: without gaps, with zeros from the last column to the next granule.

use half::f16;
use ndarray::{Array2, ArrayView2, s};

use super::{device::Device, error::Error, memory::Memory};
use crate::{
    error::Operand,
    plan::sizes::{count, pitch},
    shape::require_nonzero,
};

/// W on the device: `[N, K]`, rows padded with zeros to whole 16 bytes.
#[derive(Debug)]
pub(super) struct Weight {
    pub(super) memory: Memory,
    /// N
    pub(super) rows: u32,
    /// K
    pub(super) columns: u32,
    /// Elements from row to row.
    pub(super) pitch: u32,
}

impl Weight {
    pub(super) fn new(device: &Device, w: ArrayView2<'_, f16>) -> Result<Self, Error> {
        require_nonzero(Operand::W, w.shape())?;
        let (rows, columns) = w.dim();
        let pitch = pitch(columns);
        let [rows_count, columns_count] = [count("N", rows)?, count("K", columns)?];
        let memory = Memory::from_slice(device, elements(&padded(w, rows, pitch)))?;
        Ok(Self { memory, rows: rows_count, columns: columns_count, pitch: count("the pitch of W", pitch)? })
    }
}

/// `matrix` in the upper left corner of `rows` × `columns` zeros.
fn padded(matrix: ArrayView2<'_, f16>, rows: usize, columns: usize) -> Array2<f16> {
    let mut padded = Array2::zeros((rows, columns));
    padded.slice_mut(s![..matrix.nrows(), ..matrix.ncols()]).assign(&matrix);
    padded
}

/// The elements of a matrix that has no gaps.
pub(super) fn elements(matrix: &Array2<f16>) -> &[f16] {
    matrix.as_slice().expect("`padded` and `zeros` make matrices in standard layout")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn padding_is_zeros_right_and_below() {
        let matrix = array![[1., 2., 3.], [4., 5., 6.]].mapv(f16::from_f32);
        // Whichever way round it lies.
        for view in [matrix.view(), matrix.t().as_standard_layout().t().reborrow()] {
            let padded = padded(view, 3, 4);
            let expected = array![[1., 2., 3., 0.], [4., 5., 6., 0.], [0., 0., 0., 0.]].mapv(f16::from_f32);
            assert_eq!(padded, expected);
            assert_eq!(elements(&padded), expected.as_slice().unwrap());
        }
    }
}

//! Host copies of matrices as the kernels want them: without gaps, with zeros from the last column or row to
//! the next granule.

use fused_lora_kernels::tile::RANK_GRANULE;
use half::f16;
use ndarray::Array2;
use ndarray::{ArrayView2, s};

/// What a pitch is a multiple of, in elements: 16 bytes, so that every row can be read so many at a time.
const PITCH_GRANULE: usize = 8;

/// `matrix` in the upper left corner of `rows` × `columns` zeros.
pub(super) fn padded(matrix: ArrayView2<'_, f16>, rows: usize, columns: usize) -> Array2<f16> {
    let mut padded = Array2::zeros((rows, columns));
    padded.slice_mut(s![..matrix.nrows(), ..matrix.ncols()]).assign(&matrix);
    padded
}

/// Elements from row to row for rows of `columns`.
pub(super) fn pitch(columns: usize) -> usize {
    columns.next_multiple_of(PITCH_GRANULE)
}

/// r rounded up to the granule.
pub(super) fn rank16(rank: u32) -> u32 {
    rank.next_multiple_of(RANK_GRANULE)
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
        assert_eq!([pitch(1), pitch(8), pitch(9), pitch(1024)], [8, 8, 16, 1024]);
    }
}

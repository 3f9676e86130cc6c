//! From ndarray views to what the kernels read: a pointer, and the distance from row to row.

use half::f16;
use ndarray::{ArrayView2, ArrayViewMut2};

use crate::error::{Error, Operand};

/// The rows of x (or of h), at least one, with unit column stride.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) ptr: *const f16,
    pub(crate) ld: isize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

// SAFETY: a shared view of f16, which is Sync; whoever makes one sees to it that the memory outlives it.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

/// The rows of an output, with unit column stride.
#[derive(Clone, Copy)]
pub(crate) struct RowsMut {
    pub(crate) ptr: *mut f16,
    pub(crate) ld: isize,
}

// SAFETY: it is shared by the threads of one product, which write disjoint tiles (see `product`).
unsafe impl Send for RowsMut {}
// SAFETY: as above.
unsafe impl Sync for RowsMut {}

impl Rows {
    /// The rows of an operand whose shape has been checked.
    pub(crate) fn new(operand: Operand, view: &ArrayView2<'_, f16>) -> Result<Self, Error> {
        let (rows, columns) = view.dim();
        let ld = row_stride(operand, view.strides(), columns)?;
        Ok(Self { ptr: view.as_ptr(), ld, rows, columns })
    }
}

impl RowsMut {
    /// The rows of an operand whose shape has been checked.
    pub(crate) fn new(operand: Operand, view: &mut ArrayViewMut2<'_, f16>) -> Result<Self, Error> {
        let ld = row_stride(operand, view.strides(), view.ncols())?;
        Ok(Self { ptr: view.as_mut_ptr(), ld })
    }
}

fn row_stride(operand: Operand, strides: &[isize], columns: usize) -> Result<isize, Error> {
    // The stride of a single column says nothing.
    if columns > 1 && strides[1] != 1 {
        return Err(Error::ColumnStride { operand, stride: strides[1] });
    }
    Ok(strides[0])
}

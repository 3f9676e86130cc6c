//! From ndarray views to what the kernels read: a pointer, and the distance from row to row.

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::error::{Error, Operand};

/// The rows of x (or of h), with unit column stride.
pub(crate) struct Rows<T> {
    pub(crate) ptr: *const T,
    pub(crate) ld: isize,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Rows<T> {}

// SAFETY: a shared view of elements, which are Sync; whoever makes one sees to it that the memory outlives
// it.
unsafe impl<T: Sync> Send for Rows<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Rows<T> {}

/// The rows of an output, with unit column stride.
pub(crate) struct RowsMut<T> {
    pub(crate) ptr: *mut T,
    pub(crate) ld: isize,
}

// SAFETY: it is shared by the threads of one product, which write disjoint tiles (see `product`).
unsafe impl<T: Send> Send for RowsMut<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for RowsMut<T> {}

impl<T> Clone for RowsMut<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for RowsMut<T> {}

impl<T> Rows<T> {
    /// The rows of an operand whose shape has been checked.
    pub(crate) fn new(operand: Operand, view: &ArrayView2<'_, T>) -> Result<Self, Error> {
        let (rows, columns) = view.dim();
        let ld = row_stride(operand, view.strides(), view.dim())?;
        Ok(Self { ptr: view.as_ptr(), ld, rows, columns })
    }
}

impl<T> RowsMut<T> {
    /// The rows of an operand whose shape has been checked.
    pub(crate) fn new(operand: Operand, view: &mut ArrayViewMut2<'_, T>) -> Result<Self, Error> {
        let ld = row_stride(operand, view.strides(), view.dim())?;
        Ok(Self { ptr: view.as_mut_ptr(), ld })
    }
}

fn row_stride(operand: Operand, strides: &[isize], (rows, columns): (usize, usize)) -> Result<isize, Error> {
    // The stride of a single column, or of none of any, says nothing.
    if columns > 1 && rows > 0 && strides[1] != 1 {
        return Err(Error::ColumnStride { operand, stride: strides[1] });
    }
    Ok(strides[0])
}

//! Matrices in device memory: where they start, and how far apart their rows are.

use std::marker::PhantomData;

use super::{buffer::Buffer, error::Error};

/// A matrix of f16 in device memory that is read: rows of adjacent elements, any distance apart.
///
/// The kernels read it 16 bytes at a time where its address is a multiple of 16 bytes and its columns and
/// stride are multiples of 8; otherwise element by element: slower, never wrong.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    place: Place,
    memory: PhantomData<&'a Buffer>,
}

/// A matrix of f16 in device memory that is written. What lies between its rows is not touched.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    place: Place,
    memory: PhantomData<&'a mut Buffer>,
}

/// Where a matrix lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    /// Of its first element, on the device.
    pub(super) address: u64,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Elements from row to row.
    pub(super) stride: usize,
    /// The device's number, if known.
    pub(super) device: Option<u32>,
}

impl<'a> Matrix<'a> {
    /// `rows` × `columns` without gaps, from the start of `buffer` on.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`].
    pub fn new(buffer: &'a Buffer, rows: usize, columns: usize) -> Result<Self, Error> {
        Self::strided(buffer, 0, rows, columns, columns)
    }

    /// `rows` × `columns`, from element `offset` of `buffer` on, with `stride` elements from row to row. Rows
    /// may overlap, and with a stride of 0 be the same.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`].
    pub fn strided(
        buffer: &'a Buffer,
        offset: usize,
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Result<Self, Error> {
        let place = Place::within(buffer.len(), offset, rows, columns, stride)?;
        Ok(Self { place: place.of(buffer, offset), memory: PhantomData })
    }

    /// A matrix in memory of somebody else, a framework's tensor: `address` is that of its first element,
    /// `stride` in elements.
    ///
    /// # Safety
    ///
    /// The address is on the device of the layer that reads it and a multiple of 2; all elements are readable
    /// there until the work that was given the matrix is done, and nobody writes to them meanwhile.
    pub unsafe fn from_raw_parts(address: u64, rows: usize, columns: usize, stride: usize) -> Self {
        Self { place: Place { address, rows, columns, stride, device: None }, memory: PhantomData }
    }

    /// Its rows.
    pub fn rows(&self) -> usize {
        self.place.rows
    }

    /// Its columns.
    pub fn columns(&self) -> usize {
        self.place.columns
    }

    /// Elements from row to row.
    pub fn stride(&self) -> usize {
        self.place.stride
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }
}

impl<'a> MatrixMut<'a> {
    /// `rows` × `columns` without gaps, from the start of `buffer` on.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`].
    pub fn new(buffer: &'a mut Buffer, rows: usize, columns: usize) -> Result<Self, Error> {
        Self::strided(buffer, 0, rows, columns, columns)
    }

    /// `rows` × `columns`, from element `offset` of `buffer` on, with `stride` elements from row to row.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfBounds`], [`Error::RowsOverlap`].
    pub fn strided(
        buffer: &'a mut Buffer,
        offset: usize,
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Result<Self, Error> {
        if rows > 1 && stride < columns {
            return Err(Error::RowsOverlap { columns, stride });
        }
        let place = Place::within(buffer.len(), offset, rows, columns, stride)?;
        Ok(Self { place: place.of(buffer, offset), memory: PhantomData })
    }

    /// A matrix in memory of somebody else, a framework's tensor: `address` is that of its first element,
    /// `stride` in elements.
    ///
    /// # Safety
    ///
    /// The address is on the device of the layer that writes it and a multiple of 2; all elements are
    /// writable there until the work that was given the matrix is done, rows do not overlap, and nobody reads
    /// or writes them meanwhile.
    pub unsafe fn from_raw_parts(address: u64, rows: usize, columns: usize, stride: usize) -> Self {
        Self { place: Place { address, rows, columns, stride, device: None }, memory: PhantomData }
    }

    /// The same matrix, for a call that takes it by value.
    pub fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { place: self.place, memory: PhantomData }
    }

    /// Its rows.
    pub fn rows(&self) -> usize {
        self.place.rows
    }

    /// Its columns.
    pub fn columns(&self) -> usize {
        self.place.columns
    }

    /// Elements from row to row.
    pub fn stride(&self) -> usize {
        self.place.stride
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }
}

impl Place {
    /// A matrix that fits `len` elements; its address is not known yet.
    fn within(len: usize, offset: usize, rows: usize, columns: usize, stride: usize) -> Result<Self, Error> {
        // Nothing is read of a matrix without elements.
        let elements = match rows.checked_sub(1) {
            Some(before) if columns > 0 => {
                before.checked_mul(stride).and_then(|last| last.checked_add(columns))
            }
            _ => Some(0),
        };
        match elements.and_then(|elements| elements.checked_add(offset)) {
            Some(end) if end <= len => Ok(Self { address: 0, rows, columns, stride, device: None }),
            _ => Err(Error::OutOfBounds { offset, rows, columns, stride, len }),
        }
    }

    fn of(self, buffer: &Buffer, offset: usize) -> Self {
        let address = buffer.address() + (offset * size_of::<half::f16>()) as u64;
        Self { address, device: Some(buffer.device().ordinal()), ..self }
    }

    /// The stride as kernels take it. That of a single row says nothing, so it is what suits them best.
    pub(super) fn row_stride(&self) -> usize {
        if self.rows > 1 { self.stride } else { self.columns.next_multiple_of(8) }
    }

    /// Whether rows can be read 16 bytes at a time, to their last element.
    pub(super) fn is_aligned(&self) -> bool {
        self.address.is_multiple_of(16)
            && self.columns.is_multiple_of(8)
            && self.row_stride().is_multiple_of(8)
    }

    /// Whether the copy engine of compute capability 9.0 can address it: any number of columns, rows that do not
    /// overlap.
    pub(super) fn is_boxed(&self) -> bool {
        self.address.is_multiple_of(16)
            && self.row_stride().is_multiple_of(8)
            && self.row_stride() >= self.columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_those_of_the_last_element() {
        // (len, offset, rows, columns, stride)
        for fits in [
            (12, 0, 3, 4, 4),
            (11, 0, 2, 4, 7),
            (12, 1, 2, 4, 7),
            (4, 0, 9, 4, 0),
            (0, 0, 0, 4, 4),
            (3, 3, 5, 0, 9),
        ] {
            let (len, offset, rows, columns, stride) = fits;
            let place = Place::within(len, offset, rows, columns, stride).unwrap();
            assert_eq!((place.rows, place.columns, place.stride), (rows, columns, stride), "{fits:?}");
        }
        let max = usize::MAX;
        for not in [
            (11, 0, 3, 4, 4),
            (10, 0, 2, 4, 7),
            (11, 1, 2, 4, 7),
            (3, 0, 9, 4, 0),
            (9, 0, 3, 1, max),
            (9, max, 1, 1, 1),
        ] {
            let (len, offset, rows, columns, stride) = not;
            let expected = Error::OutOfBounds { offset, rows, columns, stride, len };
            assert_eq!(Place::within(len, offset, rows, columns, stride), Err(expected));
        }
    }

    #[test]
    fn aligned_is_what_16_bytes_at_a_time_need() {
        let aligned = Place { address: 32, rows: 2, columns: 16, stride: 24, device: None };
        assert!(aligned.is_aligned());
        assert!(!Place { address: 40, ..aligned }.is_aligned());
        assert!(!Place { columns: 12, ..aligned }.is_aligned());
        assert!(!Place { stride: 20, ..aligned }.is_aligned());
        // A single row has no stride.
        let single = Place { rows: 1, stride: 17, ..aligned };
        assert!(single.is_aligned());
        assert_eq!(single.row_stride(), 16);
        assert!(!Place { columns: 12, ..single }.is_aligned());
    }

    #[test]
    fn boxes_are_cut_from_rows_of_any_length() {
        let place = Place { address: 32, rows: 2, columns: 13, stride: 24, device: None };
        assert!(place.is_boxed() && !place.is_aligned());
        assert!(!Place { address: 40, ..place }.is_boxed());
        assert!(!Place { stride: 20, ..place }.is_boxed());
        // Rows that overlap, or are one.
        assert!(!Place { stride: 8, ..place }.is_boxed());
        assert!(!Place { stride: 0, ..place }.is_boxed());
        assert!(Place { rows: 1, stride: 0, ..place }.is_boxed());
    }
}

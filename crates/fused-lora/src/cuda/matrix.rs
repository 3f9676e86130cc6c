//! Matrices in device memory: where they start, and how far apart their rows are.

use std::marker::PhantomData;

use super::{buffer::Buffer, error::Error};
use crate::plan::place::Place;

/// A matrix of f16 in device memory that is read: the elements of a row are adjacent, the row stride is
/// arbitrary.
///
/// The kernels read it 16 bytes at a time where its address is a multiple of 16 bytes and its columns and
/// stride are multiples of 8, otherwise element by element, which is slower.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    place: Place,
    memory: PhantomData<&'a Buffer>,
}

/// A matrix of f16 in device memory that is written. Memory between its rows is not touched.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    place: Place,
    memory: PhantomData<&'a mut Buffer>,
}

impl<'a> Matrix<'a> {
    /// `rows` × `columns` without gaps, from the start of `buffer` on.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`].
    pub fn new(buffer: &'a Buffer, rows: usize, columns: usize) -> Result<Self, Error> {
        Self::strided(buffer, 0, rows, columns, columns)
    }

    /// `rows` × `columns`, from element `offset` of `buffer` on, with `stride` elements from row to row. Rows
    /// may overlap; with a stride of 0 they are the same.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`].
    pub fn strided(
        buffer: &'a Buffer,
        offset: usize,
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Result<Self, Error> {
        let place = Place::within(buffer.len(), offset, rows, columns, stride)?;
        Ok(Self { place: located(place, buffer, offset), memory: PhantomData })
    }

    /// A matrix in memory that others own, such as a framework's tensor: `address` is the address of its
    /// first element, `stride` is in elements.
    ///
    /// # Safety
    ///
    /// The address is on the device of the layer that reads it and a multiple of 2; all elements are readable
    /// there until the work that was given the matrix is done, and nothing else writes to them meanwhile.
    pub unsafe fn from_raw_parts(address: u64, rows: usize, columns: usize, stride: usize) -> Self {
        Self { place: Place { address, rows, columns, stride, device: None }, memory: PhantomData }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.place.rows
    }

    /// The number of columns.
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
    /// [`Error::Plan`].
    pub fn new(buffer: &'a mut Buffer, rows: usize, columns: usize) -> Result<Self, Error> {
        Self::strided(buffer, 0, rows, columns, columns)
    }

    /// `rows` × `columns`, from element `offset` of `buffer` on, with `stride` elements from row to row.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`], [`Error::RowsOverlap`].
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
        Ok(Self { place: located(place, buffer, offset), memory: PhantomData })
    }

    /// A matrix in memory that others own, such as a framework's tensor: `address` is the address of its
    /// first element, `stride` is in elements.
    ///
    /// # Safety
    ///
    /// The address is on the device of the layer that writes it and a multiple of 2; all elements are
    /// writable there until the work that was given the matrix is done, rows do not overlap, and nothing else
    /// reads or writes them meanwhile.
    pub unsafe fn from_raw_parts(address: u64, rows: usize, columns: usize, stride: usize) -> Self {
        Self { place: Place { address, rows, columns, stride, device: None }, memory: PhantomData }
    }

    /// The same matrix, for a call that takes it by value.
    pub fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { place: self.place, memory: PhantomData }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.place.rows
    }

    /// The number of columns.
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

/// A place within a buffer, with address and device.
fn located(place: Place, buffer: &Buffer, offset: usize) -> Place {
    let address = buffer.address() + (offset * size_of::<half::f16>()) as u64;
    Place { address, device: Some(buffer.device().ordinal()), ..place }
}

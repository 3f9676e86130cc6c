//! Where a matrix lies in device memory.

use super::error::Error;

/// Where a matrix lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Place {
    /// The device address of its first element.
    pub(crate) address: u64,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Elements from row to row.
    pub(crate) stride: usize,
    /// The device's number, if known.
    pub(crate) device: Option<u32>,
}

impl Place {
    /// A matrix that fits `len` elements; its address is not known yet.
    pub(crate) fn within(
        len: usize,
        offset: usize,
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Result<Self, Error> {
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

    /// Rows and columns.
    pub(crate) fn shape(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// The stride as kernels take it. That of a single row says nothing, so it is what suits them best.
    pub(crate) fn row_stride(&self) -> usize {
        if self.rows > 1 { self.stride } else { self.columns.next_multiple_of(8) }
    }

    /// Whether rows can be read 16 bytes at a time, to their last element.
    pub(crate) fn is_aligned(&self) -> bool {
        self.address.is_multiple_of(16)
            && self.columns.is_multiple_of(8)
            && self.row_stride().is_multiple_of(8)
    }

    /// Whether the copy engine of compute capability 9.0 can address it: any number of columns, rows that do
    /// not overlap.
    pub(crate) fn is_boxed(&self) -> bool {
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

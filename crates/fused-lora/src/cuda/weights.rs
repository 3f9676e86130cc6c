//! W, A and B on a device as the kernels want them: without gaps, with zeros from the last column or row to
//! the next granule.

use fused_lora_kernels::{Global, params};
use half::f16;
use ndarray::{Array2, ArrayView2, s};

use super::{device::Device, error::Error, memory::Memory};
use crate::{
    TableEntry,
    error::Operand,
    plan::sizes::{count, pitch, rank16},
    shape::{self, require_nonzero},
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

/// A `[R_total, K]` and B `[N, R_total]` on the device, of one adapter or of several.
#[derive(Debug)]
pub(super) struct Slabs {
    a: Memory,
    b: Memory,
    /// Elements from row to row of A.
    lda: u32,
    /// Elements from row to row of B: R_total.
    ldb: u32,
}

impl Slabs {
    /// Checks the entries, copies them, and says where each lies.
    pub(super) fn new(
        device: &Device,
        in_features: usize,
        out_features: usize,
        entries: &[TableEntry<'_>],
    ) -> Result<(Self, Vec<params::Adapter>), Error> {
        count("K", in_features)?;
        count("N", out_features)?;
        let table = lay_out(in_features, out_features, entries)?;
        let total = table.last().map_or(0, |last| last.offset as usize + rank16(last.rank) as usize);
        let ldb = count("the ranks of all adapters", total)?;
        let mut a = Array2::zeros((total, pitch(in_features)));
        // Zero beside an adapter's columns, as Hopper's kernels want it.
        let mut b = Array2::zeros((out_features, total));
        for (entry, place) in entries.iter().zip(&table) {
            let (offset, rank) = (place.offset as usize, place.rank as usize);
            a.slice_mut(s![offset..offset + rank, ..in_features]).assign(&entry.a);
            b.slice_mut(s![entry.columns.clone(), offset..offset + rank]).assign(&entry.b);
        }
        let slabs = Self {
            lda: count("the pitch of A", a.ncols())?,
            ldb,
            a: Memory::from_slice(device, elements(&a))?,
            b: Memory::from_slice(device, elements(&b))?,
        };
        Ok((slabs, table))
    }

    /// The device that they are on.
    pub(super) fn device(&self) -> &Device {
        self.a.device()
    }

    /// Their part of the kernels' parameters.
    pub(super) fn lora(&self) -> params::Lora {
        params::Lora {
            a: Global::from_address(self.a.address()),
            b: Global::from_address(self.b.address()),
            lda: self.lda,
            ldb: self.ldb,
            ..params::Lora::default()
        }
    }
}

/// Checks the entries and gives each its place in the slabs.
fn lay_out(
    in_features: usize,
    out_features: usize,
    entries: &[TableEntry<'_>],
) -> Result<Vec<params::Adapter>, Error> {
    let mut table = Vec::with_capacity(entries.len());
    let mut offset = 0usize;
    for (index, TableEntry { a, b, scale, columns }) in entries.iter().enumerate() {
        let checked = shape::check_adapter(a, b, *scale)
            .and_then(|()| shape::check_columns(columns, out_features))
            .and_then(|()| shape::check_fit([columns.len(), in_features], [b.nrows(), a.ncols()]));
        checked.map_err(|source| crate::Error::Entry { index, source: Box::new(source) })?;
        let rank = count("r", a.nrows())?;
        table.push(params::Adapter {
            offset: count("the ranks of all adapters", offset)?,
            rank,
            scale: *scale,
            // Not above N, which was counted.
            first_column: columns.start as u32,
            last_column: columns.end as u32,
            reserved: [0; 3],
        });
        offset += rank16(rank) as usize;
    }
    Ok(table)
}

/// `matrix` in the upper left corner of `rows` × `columns` zeros.
fn padded(matrix: ArrayView2<'_, f16>, rows: usize, columns: usize) -> Array2<f16> {
    let mut padded = Array2::zeros((rows, columns));
    padded.slice_mut(s![..matrix.nrows(), ..matrix.ncols()]).assign(&matrix);
    padded
}

/// The elements of a matrix that has no gaps.
fn elements(matrix: &Array2<f16>) -> &[f16] {
    matrix.as_slice().expect("`padded` and `zeros` make matrices in standard layout")
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

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

    fn entry<'a>(
        a: &'a Array2<f16>,
        b: &'a Array2<f16>,
        scale: f32,
        columns: Range<usize>,
    ) -> TableEntry<'a> {
        TableEntry { a: a.view(), b: b.view(), scale, columns }
    }

    #[test]
    fn adapters_lie_behind_each_other_at_multiples_of_the_granule() {
        let matrices = [0, 10, 250, 16].map(|r| (Array2::zeros((r, 24)), Array2::zeros((40, r))));
        let entries: Vec<_> =
            matrices.iter().zip([1.0, 2.0, 3.0, 4.0]).map(|((a, b), s)| entry(a, b, s, 8..48)).collect();
        let table = lay_out(24, 48, &entries).unwrap();
        let places: Vec<_> = table.iter().map(|e| (e.offset, e.rank, e.scale)).collect();
        assert_eq!(places, [(0, 0, 1.0), (0, 10, 2.0), (16, 250, 3.0), (272, 16, 4.0)]);
        assert!(table.iter().all(|e| (e.first_column, e.last_column, e.reserved) == (8, 48, [0; 3])));
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let (a, b) = (Array2::zeros((4, 24)), Array2::zeros((10, 4)));
        let good = entry(&a, &b, 1.0, 0..10);
        let refused = |entry| lay_out(24, 48, &[good.clone(), entry]).unwrap_err();
        let problem = |source| Error::from(crate::Error::Entry { index: 1, source: Box::new(source) });
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        for columns in [10..10, 39..49, 12..2] {
            let expected = crate::Error::Columns { columns: (columns.start, columns.end), out_features: 48 };
            assert_eq!(refused(entry(&a, &b, 1.0, columns)), problem(expected));
        }
        let shape =
            |operand, axis, expected, found| problem(crate::Error::Shape { operand, axis, expected, found });
        assert_eq!(refused(entry(&a, &b, 1.0, 0..11)), shape(Operand::B, "rows", 11, 10));
        let (a, b) = (Array2::zeros((4, 23)), Array2::zeros((10, 5)));
        assert_eq!(refused(entry(&a, &b, 1.0, 0..10)), shape(Operand::B, "columns", 4, 5));
        let b = Array2::zeros((10, 4));
        assert_eq!(refused(entry(&a, &b, 1.0, 0..10)), shape(Operand::A, "columns", 24, 23));
        let a = Array2::zeros((4, 24));
        let error = refused(entry(&a, &b, f32::NAN, 0..10)).to_string();
        assert_eq!(error, "entry 1 of the adapter table: the adapter's scale is NaN: it must be finite");
    }
}

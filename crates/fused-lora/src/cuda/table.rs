use std::{fmt, ops::Range, sync::Arc};

use fused_lora_kernels::{Global, params};
use half::f16;
use ndarray::{Array2, ArrayView2, s};

use super::{
    adapter::{Slabs, check},
    count::count,
    device::Device,
    error::Error,
    memory::Memory,
    pad::{elements, pitch, rank16},
};
use crate::{
    error::Operand,
    shape::{require, require_nonzero},
};

/// One adapter of an [`AdapterTable`].
#[derive(Clone, Debug)]
pub struct TableEntry<'a> {
    /// `[r, K]`; r may be zero.
    pub a: ArrayView2<'a, f16>,
    /// `[columns, r]`
    pub b: ArrayView2<'a, f16>,
    /// s
    pub scale: f32,
    /// The columns of y that it adds to: all of them, or those of one projection in a fused QKV.
    pub columns: Range<usize>,
}

/// Several adapters of one layer on a device, each with its own rank, scale and columns, for batches that mix
/// them. Clones share it.
#[derive(Clone)]
pub struct AdapterTable {
    inner: Arc<Inner>,
}

struct Inner {
    slabs: Slabs,
    /// The table as the kernels read it.
    table: Memory,
    entries: Vec<params::Adapter>,
    in_features: usize,
    out_features: usize,
}

impl AdapterTable {
    /// Copies `entries` to the device, for a layer with W: `[out_features, in_features]`. Their order gives
    /// the numbers by which [`Segments`](super::Segments) name them.
    ///
    /// # Errors
    ///
    /// [`Error::Entry`] for shapes that do not fit and scales that are not finite, [`Error::Columns`] for
    /// columns that are none or beyond y's, [`Error::OutOfMemory`], [`Error::TooLarge`], [`Error::Driver`].
    pub fn new(
        device: &Device,
        in_features: usize,
        out_features: usize,
        entries: &[TableEntry<'_>],
    ) -> Result<Self, Error> {
        count("K", in_features)?;
        count("N", out_features)?;
        require_nonzero(Operand::W, &[out_features, in_features])?;
        let table = lay_out(in_features, out_features, entries)?;
        let total = table.last().map_or(0, |last| last.offset + rank16(last.rank)) as usize;
        let mut a = Array2::zeros((total, pitch(in_features)));
        let mut b = Array2::zeros((out_features, total));
        for (entry, place) in entries.iter().zip(&table) {
            let (offset, rank) = (place.offset as usize, place.rank as usize);
            a.slice_mut(s![offset..offset + rank, ..in_features]).assign(&entry.a);
            b.slice_mut(s![entry.columns.clone(), offset..offset + rank]).assign(&entry.b);
        }
        let slabs = Slabs::new(device, elements(&a), pitch(in_features), elements(&b), total)?;
        let memory = Memory::from_slice(device, &table)?;
        let inner = Inner { slabs, table: memory, entries: table, in_features, out_features };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How many adapters it has.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// The rank of an adapter; None if there is no such.
    pub fn rank(&self, index: usize) -> Option<usize> {
        self.entries().get(index).map(|entry| entry.rank as usize)
    }

    /// The largest rank; 0 if it is empty.
    pub fn max_rank(&self) -> usize {
        self.entries().iter().map(|entry| entry.rank as usize).max().unwrap_or(0)
    }

    /// K
    pub fn in_features(&self) -> usize {
        self.inner.in_features
    }

    /// N
    pub fn out_features(&self) -> usize {
        self.inner.out_features
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        self.inner.table.device()
    }

    pub(super) fn entries(&self) -> &[params::Adapter] {
        &self.inner.entries
    }

    /// Whether it is a clone of `other`.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Its part of the kernels' parameters.
    pub(super) fn lora(&self) -> params::Lora {
        params::Lora { adapters: Global::from_address(self.inner.table.address()), ..self.inner.slabs.lora() }
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
        if columns.is_empty() || columns.end > out_features {
            return Err(Error::Columns { index, columns: (columns.start, columns.end), out_features });
        }
        check(*a, *b, *scale)
            .and_then(|()| require(Operand::A, "columns", in_features, a.ncols()))
            .and_then(|()| require(Operand::B, "rows", columns.len(), b.nrows()))
            .map_err(|source| Error::Entry { index, source })?;
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

impl fmt::Debug for AdapterTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterTable")
            .field("entries", &self.entries())
            .field("in_features", &self.in_features())
            .field("out_features", &self.out_features())
            .field("device", &self.device().ordinal())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        for columns in [10..10, 39..49, 12..2] {
            let expected =
                Error::Columns { index: 1, columns: (columns.start, columns.end), out_features: 48 };
            assert_eq!(refused(entry(&a, &b, 1.0, columns)), expected);
        }
        let shape = |operand, axis, expected, found| Error::Entry {
            index: 1,
            source: crate::Error::Shape { operand, axis, expected, found },
        };
        assert_eq!(refused(entry(&a, &b, 1.0, 0..11)), shape(Operand::B, "rows", 11, 10));
        let (a, b) = (Array2::zeros((4, 23)), Array2::zeros((10, 5)));
        assert_eq!(refused(entry(&a, &b, 1.0, 0..10)), shape(Operand::B, "columns", 4, 5));
        let b = Array2::zeros((10, 4));
        assert_eq!(refused(entry(&a, &b, 1.0, 0..10)), shape(Operand::A, "columns", 24, 23));
        let a = Array2::zeros((4, 24));
        let Error::Entry { index: 1, source: crate::Error::Scale { scale } } =
            refused(entry(&a, &b, f32::NAN, 0..10))
        else {
            panic!("the scale is NaN");
        };
        assert!(scale.is_nan());
    }
}

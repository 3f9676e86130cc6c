//! A and B of adapters on a device: slabs, and the regions that adapters have in them.

use std::{
    ops::Range,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use fused_lora_kernels::{Global, params, tile::RANK_GRANULE};
use half::f16;
use ndarray::{Array2, s};

use super::{
    device::Device,
    error::Error,
    memory::{Memory, Rows},
    weights::elements,
};
use crate::{
    TableEntry,
    plan::sizes::{count, pitch, rank16},
    shape,
};

/// Ranks that are given to regions together.
const GRANULE: usize = RANK_GRANULE as usize;
/// Bytes of an element.
const ELEMENT: usize = size_of::<f16>();

/// A `[ranks, K]` and B `[N, ranks]` on the device, for one adapter or several, each in a region of its own.
#[derive(Debug)]
pub(super) struct Slabs {
    a: Memory,
    b: Memory,
    /// Elements from row to row of A.
    lda: u32,
    /// Elements from row to row of B: the ranks that there is room for.
    ldb: u32,
    /// N
    out_features: usize,
    /// What each granule of ranks is used for.
    uses: Mutex<Vec<Use>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    /// For nothing, and no queued work reads it.
    Free,
    /// For a region.
    Taken,
    /// For nothing since a region was dropped, but queued work may still read it.
    Released,
}

/// The place of one adapter in slabs. Nothing else is written there before it is dropped.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) slabs: Arc<Slabs>,
    /// The first rank, and the adapter's rank, scale and columns of y.
    pub(super) entry: params::Adapter,
}

impl Slabs {
    /// Checks the entries, copies them, and says where each lies. With `spare` there is room for more.
    pub(super) fn new(
        device: &Device,
        in_features: usize,
        out_features: usize,
        entries: &[TableEntry<'_>],
        spare: bool,
    ) -> Result<(Arc<Self>, Vec<Region>), Error> {
        count("K", in_features)?;
        count("N", out_features)?;
        let table = lay_out(in_features, out_features, entries)?;
        let used = table.last().map_or(0, |last| granules(last).end);
        let ranks = if spare { room(&table) } else { used * GRANULE };
        let ldb = count("the ranks of all adapters", ranks)?;
        let mut a = Array2::zeros((ranks, pitch(in_features)));
        // Zero beside an adapter's columns, as Hopper's kernels want it.
        let mut b = Array2::zeros((out_features, ranks));
        for (entry, place) in entries.iter().zip(&table) {
            let (offset, rank) = (place.offset as usize, place.rank as usize);
            a.slice_mut(s![offset..offset + rank, ..in_features]).assign(&entry.a);
            b.slice_mut(s![entry.columns.clone(), offset..offset + rank]).assign(&entry.b);
        }
        let mut uses = vec![Use::Free; ranks / GRANULE];
        uses[..used].fill(Use::Taken);
        let slabs = Arc::new(Self {
            lda: count("the pitch of A", a.ncols())?,
            ldb,
            a: Memory::from_slice(device, elements(&a))?,
            b: Memory::from_slice(device, elements(&b))?,
            out_features,
            uses: Mutex::new(uses),
        });
        let regions = table.into_iter().map(|entry| Region { slabs: Arc::clone(&slabs), entry }).collect();
        Ok((slabs, regions))
    }

    /// Slabs for the same N and K with room for these adapters and more, and without any.
    pub(super) fn larger<'a>(
        &self,
        adapters: impl IntoIterator<Item = &'a params::Adapter>,
    ) -> Result<Self, Error> {
        let ranks = room(adapters);
        let ldb = count("the ranks of all adapters", ranks)?;
        let zeros = |columns: usize| {
            // No device has usize::MAX bytes: what overflows is out of memory, too.
            let bytes = ranks.saturating_mul(columns).saturating_mul(ELEMENT);
            let mut memory = Memory::allocate(self.device(), bytes)?;
            memory.zero().map(|()| memory)
        };
        let (a, b) = (zeros(self.lda as usize)?, zeros(self.out_features)?);
        Ok(Self { a, b, ldb, uses: Mutex::new(vec![Use::Free; ranks / GRANULE]), ..*self })
    }

    /// A copy of a region of other slabs for the same N and K; None if there is no room for it. Waits for all
    /// work on the device where only released ranks are left.
    pub(super) fn copy(self: &Arc<Self>, from: &Region) -> Result<Option<Region>, Error> {
        let count = granules(&from.entry).len();
        let Some(first) = self.take(count)? else { return Ok(None) };
        let entry = params::Adapter { offset: (first * GRANULE) as u32, ..from.entry };
        let region = Region { slabs: Arc::clone(self), entry };
        // With the zeros behind its ranks and beside its columns.
        let (ranks, other) = (count * GRANULE, &from.slabs);
        let row_of_a = self.lda as usize * ELEMENT;
        let of_a =
            |entry: &params::Adapter| Rows { offset: entry.offset as usize * row_of_a, pitch: row_of_a };
        let of_b = |slabs: &Self, entry: &params::Adapter| Rows {
            offset: entry.offset as usize * ELEMENT,
            pitch: slabs.ldb as usize * ELEMENT,
        };
        self.a.copy_rows(of_a(&entry), &other.a, of_a(&from.entry), [ranks, row_of_a])?;
        let (to, from) = (of_b(self, &entry), of_b(other, &from.entry));
        self.b.copy_rows(to, &other.b, from, [self.out_features, ranks * ELEMENT])?;
        Ok(Some(region))
    }

    /// Takes so many granules side by side, and says which is the first.
    fn take(&self, count: usize) -> Result<Option<usize>, Error> {
        let mut uses = self.uses();
        let free = |uses: &[Use]| match count {
            0 => Some(0),
            _ => uses.windows(count).position(|window| window.iter().all(|&of| of == Use::Free)),
        };
        let mut first = free(&uses);
        if first.is_none() && uses.contains(&Use::Released) {
            self.device().synchronize()?;
            uses.iter_mut().filter(|of| **of == Use::Released).for_each(|of| *of = Use::Free);
            first = free(&uses);
        }
        if let Some(first) = first {
            uses[first..first + count].fill(Use::Taken);
        }
        Ok(first)
    }

    /// A thread that panicked has written all of it or nothing.
    fn uses(&self) -> MutexGuard<'_, Vec<Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Drop for Region {
    fn drop(&mut self) {
        self.slabs.uses()[granules(&self.entry)].fill(Use::Released);
    }
}

/// The granules of an adapter's ranks.
fn granules(entry: &params::Adapter) -> Range<usize> {
    let first = entry.offset as usize / GRANULE;
    first..first + rank16(entry.rank) as usize / GRANULE
}

/// The ranks of these adapters, a quarter more, and the largest once more: so that a few can be replaced
/// while what they replace is in use, and copying all of them is rare.
fn room<'a>(adapters: impl IntoIterator<Item = &'a params::Adapter>) -> usize {
    let (sum, largest) = adapters
        .into_iter()
        .map(|entry| granules(entry).len())
        .fold((0, 0), |(sum, largest): (usize, usize), count| (sum + count, largest.max(count)));
    (sum + sum / 4 + largest) * GRANULE
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

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;
    use crate::error::Operand;

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

use std::{fmt, sync::Arc};

use half::f16;

use super::{adapter::Adapter, simd::Simd};
use crate::{
    element::{AdapterElement, Element},
    error::{Error, Operand},
    shape::{check_fit, require_nonzero},
    table_entry::TableEntry,
};

/// Several adapters of one layer, each with its own rank, scale and columns, for batches that mix them.
///
/// A table never changes: [`with`](Self::with) and [`without`](Self::without) make another one, which shares
/// all else. Batches that were made from this one keep what it holds.
pub struct AdapterTable<T: Element = f16> {
    simd: Simd,
    in_features: usize,
    out_features: usize,
    /// None where an adapter was taken out.
    slots: Arc<[Option<Adapter<T>>]>,
}

impl<T: Element> Clone for AdapterTable<T> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots), ..*self }
    }
}

impl<T: Element> AdapterTable<T> {
    /// Packs `entries` for this machine, for a layer with W: `[out_features, in_features]`.
    /// [`Segments`](super::Segments) refer to them by their index.
    ///
    /// # Errors
    ///
    /// [`Error::ZeroSize`] if one of the layer's sizes is zero, [`Error::Entry`] for shapes that do not fit,
    /// scales that are not finite, and a column range that is empty or reaches beyond y; and the errors of
    /// [`Simd::detect`].
    pub fn new<H: AdapterElement<T>>(
        in_features: usize,
        out_features: usize,
        entries: &[TableEntry<'_, H>],
    ) -> Result<Self, Error> {
        Self::with_simd(Simd::detect()?, in_features, out_features, entries)
    }

    /// As [`new`](Self::new), for the given SIMD level.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`Error::SimdUnavailable`].
    pub fn with_simd<H: AdapterElement<T>>(
        simd: Simd,
        in_features: usize,
        out_features: usize,
        entries: &[TableEntry<'_, H>],
    ) -> Result<Self, Error> {
        let simd = simd.require()?.serving(T::DTYPE);
        require_nonzero(Operand::W, &[out_features, in_features])?;
        let empty = Self { simd, in_features, out_features, slots: Arc::new([]) };
        let pack = |(index, entry): (usize, &TableEntry<'_, H>)| {
            let TableEntry { a, b, scale, columns } = entry;
            let adapter = Adapter::on_columns(simd, *a, *b, *scale, columns.clone(), out_features);
            let checked = adapter.and_then(|adapter| empty.check(&adapter).map(|()| Some(adapter)));
            checked.map_err(|source| Error::Entry { index, source: Box::new(source) })
        };
        let slots = entries.iter().enumerate().map(pack).collect::<Result<_, _>>()?;
        Ok(Self { slots, ..empty })
    }

    /// The same table but for one slot, which holds this adapter. A slot behind the last one is added.
    ///
    /// # Errors
    ///
    /// [`Error::Slot`] if there is no such slot and it is not the next one, [`Error::Shape`],
    /// [`Error::SimdMismatch`] and [`Error::AdapterType`] if the adapter does not fit the others.
    pub fn with(&self, slot: usize, adapter: Adapter<T>) -> Result<Self, Error> {
        if slot > self.len() {
            return Err(Error::Slot { slot, count: self.len() });
        }
        self.check(&adapter)?;
        let others = self.slots.iter().enumerate().filter(|(other, _)| *other != slot);
        let mut types = others.filter_map(|(_, other)| Some(other.as_ref()?.dtype()));
        let found = adapter.dtype();
        if let Some(expected) = types.find(|&expected| expected != found) {
            return Err(Error::AdapterType { expected, found });
        }
        Ok(self.replaced(slot, Some(adapter)))
    }

    /// The same table but for one slot, which holds nothing: segments can no longer name it.
    ///
    /// # Errors
    ///
    /// [`Error::Slot`] if there is no such slot.
    pub fn without(&self, slot: usize) -> Result<Self, Error> {
        if slot >= self.len() {
            return Err(Error::Slot { slot, count: self.len() });
        }
        Ok(self.replaced(slot, None))
    }

    fn replaced(&self, slot: usize, adapter: Option<Adapter<T>>) -> Self {
        let mut slots = self.slots.to_vec();
        slots.resize(slots.len().max(slot + 1), None);
        slots[slot] = adapter;
        Self { slots: slots.into(), ..*self }
    }

    /// Whether an adapter fits the layer.
    fn check(&self, adapter: &Adapter<T>) -> Result<(), Error> {
        let of_adapter = [adapter.out_features(), adapter.in_features()];
        check_fit([self.out_features, self.in_features], of_adapter)?;
        if adapter.simd() == self.simd {
            Ok(())
        } else {
            Err(Error::SimdMismatch { layer: self.simd, adapter: adapter.simd() })
        }
    }

    /// The number of slots.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether it has no slots.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// An adapter; None if there is none with this index.
    pub fn get(&self, index: usize) -> Option<&Adapter<T>> {
        self.slots.get(index)?.as_ref()
    }

    /// Its rank; None if there is no adapter with this index.
    pub fn rank(&self, index: usize) -> Option<usize> {
        self.get(index).map(Adapter::rank)
    }

    /// The largest rank; 0 if it holds no adapter.
    pub fn max_rank(&self) -> usize {
        self.slots.iter().flatten().map(Adapter::rank).max().unwrap_or(0)
    }

    /// K: the number of input features.
    pub fn in_features(&self) -> usize {
        self.in_features
    }

    /// N: the number of output features.
    pub fn out_features(&self) -> usize {
        self.out_features
    }

    /// The SIMD level that it is packed for.
    pub fn simd(&self) -> Simd {
        self.simd
    }
}

impl<T: Element> fmt::Debug for AdapterTable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdapterTable")
            .field("in_features", &self.in_features)
            .field("out_features", &self.out_features)
            .field("simd", &self.simd)
            .field("slots", &self.slots)
            .finish()
    }
}

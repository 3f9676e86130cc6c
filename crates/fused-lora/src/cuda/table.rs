use std::sync::Arc;

use fused_lora_kernels::params;

use super::{adapter::Adapter, device::Device, error::Error, slabs::Slabs};
use crate::{
    TableEntry,
    error::Operand,
    shape::{check_fit, require_nonzero},
};

/// Several adapters of one layer on a device, each with its own rank, scale and columns, for batches that mix
/// them.
///
/// A table never changes: [`with`](Self::with) and [`without`](Self::without) make another one, which shares
/// the device memory of all other adapters. Batches that were made from this one keep what it holds. An
/// adapter's memory can be used again when no table and no [`Segments`](super::Segments) hold it any more and
/// the work that was queued with it is done.
#[derive(Clone, Debug)]
pub struct AdapterTable {
    /// Where all adapters lie.
    slabs: Arc<Slabs>,
    /// None where an adapter was taken out.
    slots: Arc<[Option<Adapter>]>,
    in_features: usize,
    out_features: usize,
}

impl AdapterTable {
    /// Copies `entries` to the device, for a layer with W: `[out_features, in_features]`, and keeps room for
    /// a quarter more. [`Segments`](super::Segments) refer to them by their index.
    ///
    /// # Errors
    ///
    /// [`Entry`](crate::Error::Entry) for shapes that do not fit, scales that are not finite, and a column
    /// range that is empty or reaches beyond y; [`Error::OutOfMemory`], [`Error::Plan`], [`Error::Driver`].
    pub fn new(
        device: &Device,
        in_features: usize,
        out_features: usize,
        entries: &[TableEntry<'_>],
    ) -> Result<Self, Error> {
        require_nonzero(Operand::W, &[out_features, in_features])?;
        let (slabs, regions) = Slabs::new(device, in_features, out_features, entries, true)?;
        let adapter = |region| Some(Adapter::of(region, in_features, out_features));
        let slots = regions.into_iter().map(adapter).collect();
        Ok(Self { slabs, slots, in_features, out_features })
    }

    /// The same table but for one slot, which holds this adapter. A slot behind the last one is added.
    ///
    /// The adapter is copied on the device, unless it comes from this table ([`get`](Self::get)). Where there
    /// is no room for it, this waits for all work on the device (not allowed while a stream of the device is
    /// in capture), and then copies the table to where there is.
    ///
    /// # Errors
    ///
    /// [`Slot`](crate::Error::Slot) if there is no such slot and it is not the next one,
    /// [`Shape`](crate::Error::Shape) if the adapter does not fit the layer, [`Error::OtherDevice`];
    /// [`Error::OutOfMemory`], [`Error::Plan`], [`Error::Driver`].
    pub fn with(&self, slot: usize, adapter: Adapter) -> Result<Self, Error> {
        if slot > self.len() {
            return Err(self.no_slot(slot));
        }
        check_fit([self.out_features, self.in_features], [adapter.out_features(), adapter.in_features()])?;
        self.device().require("the adapter", adapter.device().ordinal())?;
        let mut slots = self.slots.to_vec();
        slots.resize(slots.len().max(slot + 1), None);
        slots[slot] = Some(adapter);
        let mut slabs = Arc::clone(&self.slabs);
        if !move_to(&slabs, &mut slots)? {
            slabs = Arc::new(slabs.larger(slots.iter().flatten().map(Adapter::entry))?);
            // There is room for all.
            move_to(&slabs, &mut slots)?;
        }
        Ok(Self { slabs, slots: slots.into(), ..*self })
    }

    /// The same table but for one slot, which holds nothing: segments can no longer name it.
    ///
    /// # Errors
    ///
    /// [`Slot`](crate::Error::Slot) if there is no such slot.
    pub fn without(&self, slot: usize) -> Result<Self, Error> {
        let mut slots = self.slots.to_vec();
        *slots.get_mut(slot).ok_or_else(|| self.no_slot(slot))? = None;
        Ok(Self { slabs: Arc::clone(&self.slabs), slots: slots.into(), ..*self })
    }

    fn no_slot(&self, slot: usize) -> Error {
        crate::Error::Slot { slot, count: self.len() }.into()
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
    pub fn get(&self, index: usize) -> Option<&Adapter> {
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

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        self.slabs.device()
    }

    /// The adapters as the kernels read them; of rank 0 where there is none.
    pub(super) fn entries(&self) -> Vec<params::Adapter> {
        let entry = |slot: &Option<Adapter>| slot.as_ref().map_or_else(Default::default, |a| *a.entry());
        self.slots.iter().map(entry).collect()
    }

    /// The slabs' part of the kernels' parameters.
    pub(super) fn lora(&self) -> params::Lora {
        self.slabs.lora()
    }
}

/// Puts copies in `slabs` in the place of adapters that lie elsewhere; false if there is no room for one.
fn move_to(slabs: &Arc<Slabs>, slots: &mut [Option<Adapter>]) -> Result<bool, Error> {
    for adapter in slots.iter_mut().flatten() {
        let region = adapter.region();
        if !Arc::ptr_eq(&region.slabs, slabs) {
            let Some(moved) = slabs.copy(region)? else { return Ok(false) };
            *adapter = Adapter::of(moved, adapter.in_features(), adapter.out_features());
        }
    }
    Ok(true)
}

use std::sync::Arc;

use fused_lora_kernels::{Global, params};

use super::{device::Device, error::Error, memory::Memory, weights::Slabs};
use crate::{TableEntry, error::Operand, shape::require_nonzero};

/// Several adapters of one layer on a device, each with its own rank, scale and columns, for batches that mix
/// them. Clones share the device memory.
#[derive(Clone, Debug)]
pub struct AdapterTable {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    slabs: Slabs,
    /// The table as the kernels read it.
    table: Memory,
    entries: Vec<params::Adapter>,
    in_features: usize,
    out_features: usize,
}

impl AdapterTable {
    /// Copies `entries` to the device, for a layer with W: `[out_features, in_features]`.
    /// [`Segments`](super::Segments) refer to them by their index.
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
        let (slabs, table) = Slabs::new(device, in_features, out_features, entries)?;
        let memory = Memory::from_slice(device, &table)?;
        let inner = Inner { slabs, table: memory, entries: table, in_features, out_features };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The number of adapters.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether it has no adapters.
    pub fn is_empty(&self) -> bool {
        self.entries().is_empty()
    }

    /// The rank of an adapter; None if there is no adapter with this index.
    pub fn rank(&self, index: usize) -> Option<usize> {
        self.entries().get(index).map(|entry| entry.rank as usize)
    }

    /// The largest rank; 0 if it is empty.
    pub fn max_rank(&self) -> usize {
        self.entries().iter().map(|entry| entry.rank as usize).max().unwrap_or(0)
    }

    /// K: the number of input features.
    pub fn in_features(&self) -> usize {
        self.inner.in_features
    }

    /// N: the number of output features.
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

    /// Its part of the kernels' parameters.
    pub(super) fn lora(&self) -> params::Lora {
        params::Lora { adapters: Global::from_address(self.inner.table.address()), ..self.inner.slabs.lora() }
    }
}

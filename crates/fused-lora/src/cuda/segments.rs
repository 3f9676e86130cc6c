use std::{ops::Range, sync::Arc};

use fused_lora_kernels::{Global, params::Lora};

use super::{error::Error, memory::Memory, table::AdapterTable};
use crate::{
    plan::{adapters::Adapters, assignment::Assignment},
    shape::check_segments,
};

/// Which rows of a batch use which adapter of a table, stored on the device, for any number of calls with the
/// same number of rows. Clones share the device memory.
#[derive(Clone, Debug)]
pub struct Segments {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    assignment: Assignment,
    /// The assignment's tables, then the adapters.
    memory: Memory,
    table: AdapterTable,
    m: usize,
}

impl Segments {
    /// Segments for calls with `m` rows: `rows` lists ranges of rows, in order and without overlap, and the
    /// adapter of each (None for no adapter). Rows in no range have no adapter.
    ///
    /// # Errors
    ///
    /// [`SegmentRows`](crate::Error::SegmentRows) for a range that is not in order or not within `m`,
    /// [`SegmentAdapter`](crate::Error::SegmentAdapter) for an adapter that the table has not;
    /// [`Error::OutOfMemory`], [`Error::Plan`], [`Error::Driver`].
    pub fn new(
        table: &AdapterTable,
        m: usize,
        rows: &[(Range<usize>, Option<usize>)],
    ) -> Result<Self, Error> {
        let segments = check_segments(m, rows, table.len(), |index| table.get(index).map(|_| index))?;
        let entries = table.entries();
        let ranks: Vec<u32> = entries.iter().map(|entry| entry.rank).collect();
        let assignment = Assignment::new(m, &segments, &ranks)?;
        let mut memory = Memory::allocate(table.device(), assignment.bytes + size_of_val(&*entries))?;
        memory.write(0, &assignment.segments)?;
        memory.write(assignment.bytes, &entries)?;
        for tiles in assignment.tables() {
            memory.write(tiles.offset, &tiles.entries)?;
        }
        Ok(Self { inner: Arc::new(Inner { assignment, memory, table: table.clone(), m }) })
    }

    /// The number of rows of the calls that use it.
    pub fn m(&self) -> usize {
        self.inner.m
    }

    pub(super) fn table(&self) -> &AdapterTable {
        &self.inner.table
    }

    pub(super) fn adapters(&self) -> Adapters<'_> {
        let Inner { assignment, memory, table, .. } = &*self.inner;
        let segments = Global::from_address(memory.address());
        let adapters = Global::from_address(memory.address() + assignment.bytes as u64);
        let lora = Lora { segments, adapters, ..table.lora() };
        Adapters::batch(lora, assignment)
    }
}

//! The bulk groups of a lane: its stores to global memory.

use std::collections::VecDeque;

use crate::shadow::Group;

/// A store to global memory.
#[derive(Clone, Copy)]
pub(crate) struct Store {
    /// The actor that reads shared memory, and that which writes global memory.
    pub(crate) reads: u32,
    pub(crate) writes: u32,
    pub(crate) site: u32,
}

/// The bulk groups of a lane.
#[derive(Default)]
pub(crate) struct BulkGroups {
    /// Those that are committed and not completed, the oldest first.
    pub(crate) groups: VecDeque<Vec<Store>>,
    pub(crate) open: Vec<Store>,
}

impl BulkGroups {
    fn all(&self) -> impl Iterator<Item = &Store> {
        self.groups.iter().chain([&self.open]).flatten()
    }

    /// The site of the first store that may not have read shared memory yet, and how many there are.
    pub(crate) fn unfinished(&self, groups: &[Group]) -> Option<(u32, usize)> {
        let unread = || self.all().filter(|store| groups[store.reads as usize].completed.is_none());
        Some((unread().next()?.site, unread().count()))
    }
}

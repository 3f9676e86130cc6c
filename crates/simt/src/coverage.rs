//! What runs have tried of an entry.

use std::{cell::Cell, collections::BTreeMap};

/// An instruction was executed.
pub(crate) const EXECUTED: u8 = 1;
/// A branch was taken.
pub(crate) const TAKEN: u8 = 2;

/// A wait for a parity was executed.
pub(crate) const fn waited(parity: u32) -> u8 {
    4 << (parity & 1)
}

/// What lanes of a launch have done, by the number of the instruction.
pub(crate) struct Marks {
    entry: String,
    seen: Vec<Cell<u8>>,
}

impl Marks {
    pub(crate) fn new(entry: &str, instructions: usize) -> Self {
        Self { entry: entry.to_owned(), seen: vec![Cell::new(0); instructions] }
    }

    #[inline]
    pub(crate) fn see(&self, instruction: usize, what: u8) {
        let mark = &self.seen[instruction];
        mark.set(mark.get() | what);
    }
}

/// What runs have tried of the instructions of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    by_entry: BTreeMap<String, Vec<u8>>,
}

impl Coverage {
    /// Adds what a launch has tried.
    pub(crate) fn add_marks(&mut self, marks: &Marks) {
        self.add_seen(&marks.entry, marks.seen.iter().map(Cell::get));
    }

    /// Adds what other runs have tried.
    pub fn add(&mut self, other: &Self) {
        for (entry, seen) in &other.by_entry {
            self.add_seen(entry, seen.iter().copied());
        }
    }

    fn add_seen(&mut self, entry: &str, seen: impl ExactSizeIterator<Item = u8>) {
        let own = self.by_entry.entry(entry.to_owned()).or_default();
        own.resize(seen.len(), 0);
        own.iter_mut().zip(seen).for_each(|(own, seen)| *own |= seen);
    }

    /// What was seen of an entry's instructions; nothing where it never ran.
    pub(crate) fn seen(&self, entry: &str) -> &[u8] {
        self.by_entry.get(entry).map_or(&[], |seen| seen)
    }
}

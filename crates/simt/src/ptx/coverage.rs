//! What runs have tried of an entry.

use std::{cell::Cell, collections::BTreeMap};

use super::{
    Entry, Module,
    code::{Instruction, Operation as Op},
};
use crate::site::Place;

/// An instruction was executed.
pub(super) const EXECUTED: u8 = 1;
/// A branch was taken.
pub(super) const TAKEN: u8 = 2;

/// A wait for a parity was executed.
pub(super) const fn waited(parity: u32) -> u8 {
    4 << (parity & 1)
}

/// What lanes of a launch have done, by the number of the instruction.
pub(crate) struct Marks {
    entry: String,
    seen: Vec<Cell<u8>>,
}

impl Marks {
    pub(super) fn new(entry: &str, instructions: usize) -> Self {
        Self { entry: entry.to_owned(), seen: vec![Cell::new(0); instructions] }
    }

    #[inline]
    pub(super) fn see(&self, instruction: usize, what: u8) {
        let mark = &self.seen[instruction];
        mark.set(mark.get() | what);
    }
}

/// What runs have tried of the instructions of entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    by_entry: BTreeMap<String, Vec<u8>>,
}

/// An instruction, and what of it was not tried.
#[derive(Clone, Debug)]
pub struct Covered {
    /// In the PTX, from 1.
    pub line: u32,
    /// Where it came from.
    pub place: Place,
    /// Whether it touches memory, synchronises, or multiplies matrices.
    pub is_vital: bool,
    /// What was not tried; None where all was.
    pub missing: Option<Missing>,
}

/// What was not tried of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It was never executed.
    Execution,
    /// The branch, a backward one, was never taken.
    Loop,
    /// The wait for an mbarrier was never for this parity.
    Parity(u32),
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

    /// The instructions of an entry of a module: whether each was executed, each backward branch taken, and each wait for an
    /// mbarrier made for both parities.
    #[must_use]
    pub fn of(&self, module: &Module, entry: &Entry) -> Vec<Covered> {
        let code = entry.code();
        let seen = self.by_entry.get(entry.name()).map_or(&[][..], |seen| seen);
        // The last is a return behind the text.
        let instructions = code.instructions.split_last().map_or(&[][..], |(_, before)| before);
        (instructions.iter().enumerate())
            .map(|(at, instruction)| Covered {
                line: instruction.line,
                place: module.source.place(instruction.line),
                is_vital: is_vital(instruction.op),
                missing: missing(instruction, at, seen.get(at).copied().unwrap_or(0)),
            })
            .collect()
    }
}

fn missing(instruction: &Instruction, at: usize, seen: u8) -> Option<Missing> {
    let has = |what: u8| seen & what != 0;
    match instruction.op {
        _ if !has(EXECUTED) => Some(Missing::Execution),
        Op::Branch(target) if target as usize <= at && !has(TAKEN) => Some(Missing::Loop),
        Op::MbarrierTryWait => [0, 1].into_iter().find(|&parity| !has(waited(parity))).map(Missing::Parity),
        _ => None,
    }
}

/// Arithmetic, moves and branches are not.
fn is_vital(op: Op) -> bool {
    !matches!(
        op,
        Op::Arithmetic(..)
            | Op::Convert(..)
            | Op::PackF16x2
            | Op::Pack(_)
            | Op::Unpack(_)
            | Op::LoadParameter(_)
            | Op::Branch(_)
            | Op::Return
            | Op::Trap
    )
}

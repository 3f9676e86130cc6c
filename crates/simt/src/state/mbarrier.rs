//! An mbarrier: what its phase lacks, and what its phases have published.

use std::rc::Rc;

use crate::{clock::View, memory::shared_name, shadow::Access, state::lane::LaneRef};

/// Bytes of an mbarrier.
pub(crate) const MBARRIER: usize = 8;
/// Largest count of arrivals, and of bytes that are expected or in excess (PTX ISA 9.7.13.15.1).
pub(crate) const MAX_COUNT: i64 = (1 << 20) - 1;

/// An mbarrier, from its initialisation to the end of its CTA.
pub(crate) struct Mbarrier {
    /// In shared memory.
    pub(crate) offset: usize,
    pub(crate) count: u32,
    /// Arrivals and bytes that the phase lacks; bytes that came before they were expected count below 0.
    pub(crate) pending: u32,
    pub(crate) tx: i64,
    /// The number of phases that are complete.
    pub(crate) phase: u32,
    pub(crate) init: Access,
    /// The epoch of the lane that initialised it when it had executed `fence.mbarrier_init`.
    pub(crate) fenced: Option<u32>,
    /// What arrivals in this phase published.
    pub(crate) current: Option<View>,
    /// What was published in all phases that are complete.
    pub(crate) done: Rc<View>,
    /// Lanes that are set aside until the phase is complete.
    pub(crate) waiters: Vec<LaneRef>,
}

/// Who signals an mbarrier, besides lanes of its own CTA.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// A lane of another CTA, or an asynchronous operation of one.
    Remote,
    /// An asynchronous operation of the own CTA.
    Async,
}

impl Mbarrier {
    /// For a report of whoever waits for `parity`.
    pub(crate) fn describe(&self, parity: u32) -> String {
        let Self { offset, phase, pending, tx, .. } = self;
        format!(
            "the mbarrier at {}, parity {parity}; phase {phase} lacks {pending} arrivals and {tx} bytes",
            shared_name(*offset)
        )
    }

    /// Ends the phase if nothing is missing. `lane` is the virtual lane.
    pub(crate) fn progress(&mut self, lane: u32) -> bool {
        if self.pending > 0 || self.tx != 0 {
            return false;
        }
        self.phase += 1;
        self.pending = self.count;
        let mut done = View::clone(&self.done);
        if let Some(current) = self.current.take() {
            done.join(&current);
        }
        done.set(lane, self.phase);
        self.done = Rc::new(done);
        true
    }
}

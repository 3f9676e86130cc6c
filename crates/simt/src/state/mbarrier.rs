//! An mbarrier: what its phase lacks, and what its phases have published.

use std::rc::Rc;

use crate::{clock::View, memory::shared_name, shadow::Access, state::lane::LaneRef};

/// Bytes of an mbarrier.
pub(crate) const MBARRIER: usize = 8;
/// Largest count of arrivals, and of bytes that are expected or in excess (PTX ISA, "Size and alignment of
/// mbarrier object").
pub(crate) const MAX_COUNT: i64 = (1 << 20) - 1;

/// An mbarrier, from its initialisation to the end of its CTA. One that was invalidated stays for its virtual
/// lane, and may be initialised again.
pub(crate) struct Mbarrier {
    pub(crate) is_valid: bool,
    /// In shared memory.
    pub(crate) offset: usize,
    pub(crate) count: u32,
    /// Arrivals and bytes that the phase lacks; bytes that came before they were expected count below 0.
    pub(crate) pending: u32,
    pub(crate) tx: i64,
    /// The number of phases that are complete since it was initialised.
    pub(crate) phase: u32,
    /// What its virtual lane counts: initialisations, and phases that are complete.
    pub(crate) epoch: u32,
    /// The epoch that began when it was initialised: who knows that has seen a fence of the initialisation,
    /// or a phase.
    pub(crate) born: u32,
    /// Of each lane of its CTA that used it, when and where it did so last.
    pub(crate) users: Vec<(u32, u32)>,
    pub(crate) init: Access,
    /// The epoch of the lane that initialised it when it had executed `fence.mbarrier_init`.
    pub(crate) fenced: Option<u32>,
    /// What arrivals in this phase published.
    pub(crate) current: Option<View>,
    /// What was published in all phases that are complete.
    pub(crate) done: Rc<View>,
    /// What lanes of other CTAs published to the cluster, likewise: for waits of that scope alone.
    pub(crate) current_of_cluster: Option<View>,
    pub(crate) done_of_cluster: Option<Rc<View>>,
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
        self.epoch += 1;
        self.pending = self.count;
        let mut done = View::clone(&self.done);
        if let Some(current) = self.current.take() {
            done.join(&current);
        }
        done.set(lane, self.epoch);
        self.done = Rc::new(done);
        if let Some(mut current) = self.current_of_cluster.take() {
            if let Some(done) = &self.done_of_cluster {
                current.join(done);
            }
            self.done_of_cluster = Some(Rc::new(current));
        }
        true
    }
}

/// An arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrive {
    pub(crate) count: u32,
    /// Bytes that it expects before.
    pub(crate) bytes: u32,
    /// Later phases expect so many arrivals fewer.
    pub(crate) drops: bool,
    /// It must not end the phase.
    pub(crate) is_incomplete: bool,
    pub(crate) scope: Scope,
}

/// Whom a release or an acquire is for, of lanes that share an mbarrier. PTX ISA, "Scope".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Cta,
    Cluster,
}

impl Arrive {
    pub(crate) const ONE: Self =
        Self { count: 1, bytes: 0, drops: false, is_incomplete: false, scope: Scope::Cta };
}

/// The state that an arrival gives: the epoch before it, and the arrivals that were missing. Bit 63 tells it
/// from other values.
pub(crate) fn state(mbarrier: &Mbarrier) -> u64 {
    1 << 63 | u64::from(mbarrier.pending) << 32 | u64::from(mbarrier.epoch)
}

/// The epoch of a state, and the arrivals that were missing; None for a value that is no state.
pub(crate) fn of_state(state: u64) -> Option<(u32, u32)> {
    (state >> 63 == 1).then_some((state as u32, (state >> 32) as u32 & MAX_COUNT as u32))
}

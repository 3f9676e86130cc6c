//! The barriers of a CTA, and waiting at them.
//!
//! | barrier | counts | a phase is over when |
//! |---|---|---|
//! | full, one a slot | 1 arrival and the bytes of the slot | all that producers copy there has landed |
//! | empty, one a slot | consumer warpgroups of all CTAs that copy there | all of them have multiplied it |
//! | work full, one a board | 1 arrival | the producer has written it |
//! | work empty, one a board | all consumer threads | all have read it for the last time |
//! | h full, one a consumer warpgroup | 1 arrival, the bytes of others' panels | its rows of h are complete |
//! | h empty, one a consumer warpgroup | CTAs of the cluster | all have multiplied their copy of its rows |

use core::marker::PhantomData;

use super::{
    ring::Ring,
    tile::{BOARDS, Tile, WARPGROUP},
};
use crate::device::{
    SharedAddr, fence_mbarrier_init, mbarrier_init, mbarrier_try_wait, mbarrier_try_wait_cluster,
};

/// Where they are.
#[derive(Clone, Copy)]
pub(super) struct Barriers<T> {
    first: SharedAddr,
    tile: PhantomData<T>,
}

impl<T: Tile> Barriers<T> {
    #[inline(always)]
    pub(super) fn new(shared: SharedAddr) -> Self {
        Self { first: shared.offset(T::BARRIER_OFFSET), tile: PhantomData }
    }

    #[inline(always)]
    fn at(self, number: u32) -> SharedAddr {
        self.first.offset(8 * number)
    }

    #[inline(always)]
    pub(super) fn full(self, slot: u32) -> SharedAddr {
        self.at(slot)
    }

    #[inline(always)]
    pub(super) fn empty(self, slot: u32) -> SharedAddr {
        self.at(T::STAGES + slot)
    }

    #[inline(always)]
    pub(super) fn work_full(self, board: u32) -> SharedAddr {
        self.at(2 * T::STAGES + board)
    }

    #[inline(always)]
    pub(super) fn work_empty(self, board: u32) -> SharedAddr {
        self.at(2 * T::STAGES + BOARDS + board)
    }

    #[inline(always)]
    pub(super) fn h_full(self, warpgroup: u32) -> SharedAddr {
        self.at(2 * T::STAGES + 2 * BOARDS + warpgroup)
    }

    #[inline(always)]
    pub(super) fn h_empty(self, warpgroup: u32) -> SharedAddr {
        self.at(2 * T::STAGES + 2 * BOARDS + T::CONSUMERS + warpgroup)
    }

    /// Makes all of them.
    ///
    /// # Safety
    ///
    /// One thread of each CTA, before a barrier of the cluster.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn init(self, ring: Ring<T>) {
        // Where CTAs share K they make no h, and nobody waits for its barriers.
        let ctas = ring.ctas();
        // SAFETY: they lie in the CTA's shared memory, and nobody uses them before the cluster's barrier.
        unsafe {
            let mut i = 0;
            while i < T::STAGES {
                mbarrier_init(self.full(i), 1);
                mbarrier_init(self.empty(i), T::CONSUMERS * ctas);
                i += 1;
            }
            i = 0;
            while i < BOARDS {
                mbarrier_init(self.work_full(i), 1);
                mbarrier_init(self.work_empty(i), T::CONSUMERS * WARPGROUP);
                i += 1;
            }
            i = 0;
            while i < T::CONSUMERS {
                mbarrier_init(self.h_full(i), 1);
                mbarrier_init(self.h_empty(i), ctas);
                i += 1;
            }
            fence_mbarrier_init();
        }
    }
}

/// Waits until the phase of this parity is over.
///
/// # Safety
///
/// As [`mbarrier_try_wait`].
#[inline(always)]
#[track_caller]
pub(super) unsafe fn wait(barrier: SharedAddr, parity: u32) {
    // SAFETY: the caller's contract.
    while !unsafe { mbarrier_try_wait(barrier, parity) } {}
}

/// The same, ordered after what threads of other CTAs have read.
///
/// # Safety
///
/// As [`mbarrier_try_wait_cluster`].
#[inline(always)]
#[track_caller]
pub(super) unsafe fn wait_for_readers(barrier: SharedAddr, parity: u32) {
    // SAFETY: the caller's contract.
    while !unsafe { mbarrier_try_wait_cluster(barrier, parity) } {}
}

/// A place in a cycle of places, and how often it has been around, modulo 2: the parity that a consumer waits
/// for.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub place: u32,
    pub parity: u32,
}

impl Turn {
    pub(super) const FIRST: Self = Self { place: 0, parity: 0 };

    /// The next place of `places`.
    #[inline(always)]
    pub(super) fn advance(&mut self, places: u32) {
        self.place += 1;
        if self.place == places {
            self.place = 0;
            self.parity ^= 1;
        }
    }

    /// The parity that a producer waits for: a place that was never filled counts as empty.
    #[inline(always)]
    pub(super) fn free(self) -> u32 {
        self.parity ^ 1
    }
}

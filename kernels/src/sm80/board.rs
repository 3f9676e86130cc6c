//! What one thread finds out and all must know: a few words of shared memory.
//!
//! The leader, thread 0, walks through the tables; the others read the result where they need it, and not
//! earlier: a value that waits in a register during the K loop is one that the sums do not have.

use super::segments::Part;
use crate::{
    device::SharedAddr,
    params::Adapter,
    tile::{BOARD_BYTES, RANK_GRANULE, Tile},
};

/// 16 words: work item (4), part (8), where its search goes on, whether h is ready.
#[derive(Clone, Copy)]
pub(super) struct Board(SharedAddr);

const PART: u32 = 16;
const SEGMENT: u32 = 48;
const READY: u32 = 52;

impl Board {
    /// The board behind a tile's ring.
    #[inline(always)]
    #[must_use]
    pub(super) fn new<T: Tile>(shared: SharedAddr) -> Self {
        Self(shared.offset(T::SHARED_BYTES - BOARD_BYTES))
    }

    /// Writes the work item.
    ///
    /// # Safety
    ///
    /// One thread, between two barriers of the CTA.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn set_work(self, work: [u32; 4]) {
        // SAFETY: the caller's contract.
        unsafe { self.0.store_v4(work) }
    }

    /// The work item.
    ///
    /// # Safety
    ///
    /// After the barrier that follows its writing, before the one that precedes the next.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub(super) unsafe fn work(self) -> [u32; 4] {
        // SAFETY: the caller's contract.
        unsafe { self.0.load_v4() }
    }

    /// Writes a part, and the segment from which the search goes on.
    ///
    /// # Safety
    ///
    /// As [`set_work`](Self::set_work).
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn set_part(self, part: Part, segment: u32) {
        let Part { begin, end, adapter } = part;
        // SAFETY: the caller's contract.
        unsafe {
            self.0.offset(PART).store_v4([begin, end, adapter.rank, adapter.offset]);
            self.0.offset(PART + 16).store_v4([
                adapter.scale.to_bits(),
                adapter.first_column,
                adapter.last_column,
                0,
            ]);
            self.0.offset(SEGMENT).store_u32(segment);
        }
    }

    /// The part.
    ///
    /// # Safety
    ///
    /// As [`work`](Self::work).
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub(super) unsafe fn part(self) -> Part {
        // SAFETY: the caller's contract.
        unsafe {
            let [begin, end, rank, offset] = self.0.offset(PART).load_v4();
            let [scale, first_column, last_column, _] = self.0.offset(PART + 16).load_v4();
            let scale = f32::from_bits(scale);
            Part {
                begin,
                end,
                adapter: Adapter { offset, rank, scale, first_column, last_column, reserved: [0; 3] },
            }
        }
    }

    /// The part's rank, rounded up to the granule.
    ///
    /// # Safety
    ///
    /// As [`work`](Self::work).
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub(super) unsafe fn rank16(self) -> u32 {
        // SAFETY: the caller's contract.
        unsafe { self.0.offset(PART + 8).load_u32().next_multiple_of(RANK_GRANULE) }
    }

    /// Where the search for parts goes on.
    ///
    /// # Safety
    ///
    /// The thread that wrote it.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub(super) unsafe fn segment(self) -> u32 {
        // SAFETY: the caller's contract.
        unsafe { self.0.offset(SEGMENT).load_u32() }
    }

    /// Writes whether h is ready.
    ///
    /// # Safety
    ///
    /// As [`set_work`](Self::set_work).
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn set_ready(self, ready: bool) {
        // SAFETY: the caller's contract.
        unsafe { self.0.offset(READY).store_u32(u32::from(ready)) }
    }

    /// Whether h is ready.
    ///
    /// # Safety
    ///
    /// As [`work`](Self::work).
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub(super) unsafe fn ready(self) -> bool {
        // SAFETY: the caller's contract.
        unsafe { self.0.offset(READY).load_u32() != 0 }
    }
}

//! What the producer tells the consumers of a work item: a few words of shared memory.
//!
//! | bytes | a tile of y | a tile of h |
//! |---|---|---|
//! | 0 | kind, row tile, column tile, panels of h | kind, row tile, first column, columns |
//! | 16 | steps of the expand, panels that this CTA makes | |
//! | 32, 16 each | the panels that this CTA makes | the panel's adapter |
//! | behind, 4 each | steps of the expand | |

use super::{
    barriers::{Barriers, Turn, wait},
    tile::{BOARDS, Tile},
};
use crate::device::{SharedAddr, mbarrier_arrive, opaque, shfl_first};

/// Sixteen columns of h in a row tile: whose they are.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    /// First row in the slab A.
    pub slab_row: u32,
    /// First row of the row tile that belongs to the adapter.
    pub begin: u32,
    /// The row after the last.
    pub end: u32,
    /// s
    pub scale: f32,
    /// How many of the columns are not padding.
    pub real: u32,
}

impl Panel {
    /// Behind the slab A, where rows are filled with zeros: it has as many rows as the slab B has columns,
    /// which are at most `ldb`.
    #[inline(always)]
    pub(super) const fn none(ldb: u32) -> Self {
        Self { slab_row: ldb, begin: 0, end: 0, scale: 0.0, real: 0 }
    }
}

/// A step of the expand: up to 64 columns of one adapter.
#[derive(Clone, Copy)]
pub(super) struct Chunk {
    /// First panel of h.
    pub panel: u32,
    /// Panels, 1 to 4.
    pub panels: u32,
    /// First column in the slab B, in panels.
    pub b_panel: u32,
}

impl Chunk {
    #[inline(always)]
    fn to_word(self) -> u32 {
        (self.panels - 1) | self.panel << 2 | self.b_panel << 10
    }

    #[inline(always)]
    fn from_word(word: u32) -> Self {
        Self { panels: (word & 3) + 1, panel: word >> 2 & 0xff, b_panel: word >> 10 }
    }
}

/// One of a CTA's boards.
#[derive(Clone, Copy)]
pub(super) struct Board<T> {
    at: SharedAddr,
    barriers: Barriers<T>,
    turn: Turn,
}

impl<T: Tile> Board<T> {
    /// The first one.
    #[inline(always)]
    pub(super) fn first(shared: SharedAddr) -> Self {
        Self { at: shared.offset(T::BOARD_OFFSET), barriers: Barriers::new(shared), turn: Turn::FIRST }
    }

    /// The next one.
    #[inline(always)]
    pub(super) fn advance(&mut self) {
        self.turn.advance(BOARDS);
        // Opaque: of two places that take turns the compiler makes two loops over tiles, one behind the
        // other.
        self.turn.place = opaque(self.turn.place);
    }

    #[inline(always)]
    fn here(self) -> SharedAddr {
        self.at.offset(self.turn.place * T::BOARD_BYTES)
    }

    /// Waits until the consumers are done with what stands there.
    ///
    /// # Safety
    ///
    /// The producer.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn wait_until_empty(self) {
        // SAFETY: a barrier of this CTA, whose phases the producer follows.
        unsafe { wait(self.barriers.work_empty(self.turn.place), self.turn.free()) }
    }

    /// Lets the consumers read.
    ///
    /// # Safety
    ///
    /// The producer, once an item.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn publish(self) {
        // SAFETY: the one arrival of the phase.
        unsafe { mbarrier_arrive(self.barriers.work_full(self.turn.place)) }
    }

    /// Waits until the producer has written the next item.
    ///
    /// # Safety
    ///
    /// A consumer.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn wait_until_full(self) {
        // SAFETY: a barrier of this CTA, whose phases the consumers follow.
        unsafe { wait(self.barriers.work_full(self.turn.place), self.turn.parity) }
    }

    /// Says that this thread reads it no more.
    ///
    /// # Safety
    ///
    /// Every consumer thread, once an item.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn release(self) {
        // SAFETY: one of the phase's arrivals.
        unsafe { mbarrier_arrive(self.barriers.work_empty(self.turn.place)) }
    }

    /// Writes the first two lines.
    ///
    /// # Safety
    ///
    /// The producer, between waiting and publishing.
    #[inline(always)]
    pub(super) unsafe fn set_item(self, item: [u32; 4], more: [u32; 4]) {
        // SAFETY: the caller's contract.
        unsafe {
            self.here().store_v4(item);
            self.here().offset(16).store_v4(more);
        }
    }

    /// The first line. Loaded words are shuffled, here and below, so that ptxas sees that a warp's lanes
    /// have the same: else what depends on them, loops and descriptors, would not be uniform either.
    ///
    /// # Safety
    ///
    /// All lanes of a consumer's warp, between waiting and releasing.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn item(self) -> [u32; 4] {
        // SAFETY: the caller's contract.
        unsafe { self.here().load_v4().map(|word| shfl_first(word)) }
    }

    /// The second line.
    ///
    /// # Safety
    ///
    /// As [`item`](Self::item).
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn more(self) -> [u32; 4] {
        // SAFETY: the caller's contract.
        unsafe { self.here().offset(16).load_v4().map(|word| shfl_first(word)) }
    }

    /// Writes panel `i` of this CTA's.
    ///
    /// # Safety
    ///
    /// As [`set_item`](Self::set_item).
    #[inline(always)]
    pub(super) unsafe fn set_panel(self, i: u32, panel: Panel) {
        let Panel { slab_row, begin, end, scale, real } = panel;
        // SAFETY: the caller's contract.
        unsafe { self.panel_at(i).store_v4([slab_row, begin | end << 16, scale.to_bits(), real]) }
    }

    /// Panel `i` of this CTA's.
    ///
    /// # Safety
    ///
    /// As [`item`](Self::item).
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn panel(self, i: u32) -> Panel {
        // SAFETY: the caller's contract.
        let [slab_row, rows, scale, real] = unsafe { self.panel_at(i).load_v4() };
        Panel { slab_row, begin: rows & 0xffff, end: rows >> 16, scale: f32::from_bits(scale), real }
    }

    /// The row in the slab A of panel `i` of this CTA's.
    ///
    /// # Safety
    ///
    /// The producer, which wrote it itself.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn slab_row(self, i: u32) -> u32 {
        // SAFETY: the caller's contract.
        unsafe { self.panel_at(i).load_u32() }
    }

    /// Writes step `i` of the expand.
    ///
    /// # Safety
    ///
    /// As [`set_item`](Self::set_item).
    #[inline(always)]
    pub(super) unsafe fn set_chunk(self, i: u32, chunk: Chunk) {
        // SAFETY: the caller's contract.
        unsafe { self.chunk_at(i).store_u32(chunk.to_word()) }
    }

    /// Step `i` of the expand.
    ///
    /// # Safety
    ///
    /// As [`item`](Self::item).
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn chunk(self, i: u32) -> Chunk {
        // SAFETY: the caller's contract.
        Chunk::from_word(unsafe { shfl_first(self.chunk_at(i).load_u32()) })
    }

    /// The same for the producer, one thread.
    ///
    /// # Safety
    ///
    /// The producer, which wrote it itself.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn own_chunk(self, i: u32) -> Chunk {
        // SAFETY: the caller's contract.
        Chunk::from_word(unsafe { self.chunk_at(i).load_u32() })
    }

    #[inline(always)]
    fn panel_at(self, i: u32) -> SharedAddr {
        self.here().offset(32 + 16 * i)
    }

    #[inline(always)]
    fn chunk_at(self, i: u32) -> SharedAddr {
        self.here().offset(32 + 16 * T::ENTRIES + 4 * i)
    }
}

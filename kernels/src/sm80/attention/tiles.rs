//! Blocks of q, k and v on their way to shared memory.

use crate::{
    Global,
    device::{SharedAddr, cp_async_16, opaque},
    sm80::swizzle::{CHUNK, CHUNK_ELEMENTS, chunk_at},
    tile::{ATTENTION_BLOCK, ATTENTION_THREADS},
};

/// Walks down the rows of a head of q, k or v, one block after another, as one thread sees it.
///
/// Thread t copies chunk t mod c of row t / c, of the row THREADS / c below, and so on. The swizzle repeats
/// after eight rows, so that the rows below are at constant distances in shared memory.
#[derive(Clone, Copy)]
pub(super) struct Reader<const ROW: u32> {
    /// This thread's chunk of the next block, in its first row.
    at: Global<u16>,
    /// Row stride in elements.
    stride: u32,
    /// How many rows there are from `at` on; 0 where the chunk is behind the head's last column.
    rows: u32,
    /// Where the chunk goes in a tile.
    to: u32,
}

impl<const ROW: u32> Reader<ROW> {
    /// From `first` on: a head of `columns` columns and `rows` rows.
    #[inline(always)]
    pub(super) fn new(thread: u32, first: Global<u16>, stride: u32, rows: u32, columns: u32) -> Self {
        let chunks = ROW / CHUNK;
        let (row, chunk) = (thread / chunks, thread % chunks);
        let column = chunk * CHUNK_ELEMENTS;
        Self {
            at: first.offset(u64::from(row) * u64::from(stride) + u64::from(column)),
            stride,
            rows: if column < columns { rows.saturating_sub(row) } else { 0 },
            to: chunk_at::<ROW>(SharedAddr::ZERO, row, chunk).address(),
        }
    }

    /// Starts copying the next block to `tile`; zeros where rows or columns are not there. (P is 0 behind the
    /// last row, and 0 · NaN is NaN: what is not v must be a number.)
    ///
    /// # Safety
    ///
    /// All threads of the CTA call it. The head is readable, its rows multiples of 16 bytes; nobody touches
    /// the tile until the copies are waited for and a barrier has followed.
    #[inline(always)]
    pub(super) unsafe fn copy(&mut self, tile: SharedAddr) {
        let step = ATTENTION_THREADS / (ROW / CHUNK);
        // Its multiples would wait in registers from one block to the next.
        let stride = opaque(self.stride);
        let mut i = 0;
        while i < ATTENTION_BLOCK / step {
            let row = i * step;
            let from = self.at.offset(u64::from(row) * u64::from(stride));
            let bytes = if row < self.rows { CHUNK } else { 0 };
            // SAFETY: the chunk of the tile is this thread's; the row is there if bytes are read.
            unsafe { cp_async_16(tile.offset(self.to + row * ROW), from, bytes) };
            i += 1;
        }
        self.at = self.at.offset(u64::from(ATTENTION_BLOCK) * u64::from(self.stride));
        self.rows = self.rows.saturating_sub(ATTENTION_BLOCK);
    }
}

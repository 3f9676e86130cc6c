//! From global to shared memory: tiles of rows × BLOCK_K, by all threads of the CTA.

use core::marker::PhantomData;

use super::{
    fragments::Place,
    swizzle::{CHUNK_ELEMENTS, chunk_at},
};
use crate::{
    Global,
    device::{SharedAddr, cp_async_16},
    tile::Tile,
};

/// The rows of a matrix that a tile covers.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    /// Column 0 of the tile's first row.
    pub first: Global<u16>,
    /// Row stride in elements.
    pub stride: u32,
    /// Rows of the tile from here ...
    pub begin: u32,
    /// ... to here are read, the others are zeros.
    pub end: u32,
}

impl Rows {
    /// Rows `first_row` to `first_row + block` of a matrix that has `rows`.
    #[inline(always)]
    pub(super) fn new(matrix: Global<u16>, stride: u32, first_row: u32, rows: u32) -> Self {
        let first = matrix.offset(u64::from(first_row) * u64::from(stride));
        Self { first, stride, begin: 0, end: rows - first_row }
    }
}

/// Walks along the rows of an operand, one tile of `width` columns after another.
///
/// A tile is cut into chunks of 16 bytes; thread t copies chunk t mod c of row t / c, of the row THREADS / c
/// below, and so on. The address moves with the tiles, and the rows below are at constant distances: so the
/// loop keeps one pointer, where one for each chunk would take the registers of the sums.
#[derive(Clone, Copy)]
pub(super) struct Reader<T> {
    tile: PhantomData<T>,
    thread: u32,
    /// Where this thread's chunk of the first row lies in a tile.
    offset: u32,
    /// This thread's chunk of the next tile, in its first row.
    at: Global<u16>,
    rows: Rows,
    /// Columns from the next tile's first on.
    left: u32,
}

impl<T: Tile> Reader<T> {
    /// From column 0 of `rows`, which have `columns`, in tiles of `width`, a constant: 16 or 32.
    #[inline(always)]
    pub(super) fn new(place: Place, rows: Rows, columns: u32, width: u32) -> Self {
        let (row, chunk) = position(place.thread, width);
        let zero = SharedAddr::ZERO;
        let to =
            if width == 16 { chunk_at::<32>(zero, row, chunk) } else { chunk_at::<64>(zero, row, chunk) };
        let at =
            rows.first.offset(u64::from(row) * u64::from(rows.stride) + u64::from(chunk * CHUNK_ELEMENTS));
        Self { tile: PhantomData, thread: place.thread, offset: to.address(), at, rows, left: columns }
    }

    /// Whether all columns have been copied.
    #[inline(always)]
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// Copies the next tile, of `block` rows; zeros where rows or columns are not there, and behind the last
    /// tile.
    ///
    /// With ALIGNED, 16 bytes at a time and asynchronously; complete when this thread's group is. Else
    /// element by element, complete at once. Either way other threads need a barrier.
    ///
    /// # Safety
    ///
    /// All threads of the CTA call it with the same `block` and `width`, the latter that of
    /// [`new`](Self::new). The rows' columns are readable; with ALIGNED their base is a multiple of 16 bytes,
    /// their stride of 8, and so many columns are readable and, past the last, zero. `to` has `block` ×
    /// `width` f16 that nobody reads or writes until the copy is complete.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn copy<const ALIGNED: bool>(&mut self, to: SharedAddr, block: u32, width: u32) {
        let chunks = width / CHUNK_ELEMENTS;
        let (first_row, chunk) = position(self.thread, width);
        let step = T::THREADS / chunks;
        let column = chunk * CHUNK_ELEMENTS;
        let mut i = 0;
        while i < block.div_ceil(step) {
            let row = first_row + i * step;
            if block.is_multiple_of(step) || row < block {
                let present = self.rows.begin <= row && row < self.rows.end && column < self.left;
                let from = self.at.offset(u64::from(i * step) * u64::from(self.rows.stride));
                // The swizzle repeats after eight rows, so that the rows below are at constant distances
                // here, too.
                let to = to.offset(self.offset + i * step * width * 2);
                // SAFETY: the chunk of `to` is this thread's; what is `present` is readable: with ALIGNED to
                // its end, which is padding at most.
                unsafe {
                    if ALIGNED {
                        // All or nothing: for any other number of bytes ptxas would compute on the address.
                        cp_async_16(to, from, if present { 16 } else { 0 });
                    } else {
                        let elements = if present { (self.left - column).min(CHUNK_ELEMENTS) } else { 0 };
                        to.store_v4(gather(from, elements));
                    }
                }
            }
            i += 1;
        }
        self.at = self.at.offset(u64::from(width));
        self.left = self.left.saturating_sub(width);
    }
}

/// Row and chunk of a thread in a tile of `width` columns.
#[inline(always)]
fn position(thread: u32, width: u32) -> (u32, u32) {
    let chunks = width / CHUNK_ELEMENTS;
    (thread / chunks, thread % chunks)
}

/// Up to eight elements that lie anywhere, zeros behind them.
///
/// # Safety
///
/// `elements` are readable at `from`.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn gather(from: Global<u16>, elements: u32) -> [u32; 4] {
    let mut words = [0; 4];
    let mut i = 0;
    while i < CHUNK_ELEMENTS {
        if i < elements {
            // SAFETY: the caller's contract.
            let element = unsafe { from.offset(u64::from(i)).load() };
            words[i as usize / 2] |= u32::from(element) << (16 * (i % 2));
        }
        i += 1;
    }
    words
}

//! From registers to global memory: f32 sums cross shared memory, are finished and rounded there in whole
//! chunks of a row, and leave in 16 bytes a thread.
//!
//! The sums are staged as f32, not as the f16 they become: so bias, residual and whatever an epilogue adds
//! are read in whole chunks and written in a loop that is not unrolled, while the registers of the sums are
//! free again. Where the f32 tile is larger than the ring, it crosses in several passes.

use super::fragments::{Place, Sums};
use crate::{
    Global,
    device::{SharedAddr, bar_sync, pack_f16x2},
    tile::Tile,
};

/// f32 in a chunk of 16 bytes.
const CHUNK: u32 = 4;
/// Elements that a thread finishes and stores at once.
pub(crate) const WIDTH: u32 = 8;

/// Where a tile goes.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// Row 0, column 0 of the tile.
    pub first: Global<u16>,
    /// Row stride in elements.
    pub stride: u32,
    /// Rows of the tile from here ...
    pub begin: u32,
    /// ... to here are stored.
    pub end: u32,
    /// Columns of the tile that are stored; may be more than the tile has.
    pub columns: u32,
}

/// What is done to sums before they are rounded.
pub(crate) trait Finish {
    /// Whether each row is stored in whole chunks, from multiples of 16 bytes on: then there is no code for
    /// single elements.
    const IN_CHUNKS: bool = false;

    /// Finishes the sums of columns `column` to `column + 8` of a row, of which `present` are stored.
    ///
    /// # Safety
    ///
    /// What the finish reads is readable for the `present` elements.
    unsafe fn finish(
        &self,
        row: u32,
        column: u32,
        present: u32,
        sums: [f32; WIDTH as usize],
    ) -> [f32; WIDTH as usize];
}

/// Finishes, rounds and stores a tile.
///
/// # Safety
///
/// All threads of the CTA call it; `staging` has RING_BYTES that nobody uses, from a barrier that this begins
/// with until the CTA's next barrier; the rows and columns that `target` names are writable and this CTA's.
#[inline(always)]
pub(super) unsafe fn store_tile<T: Tile, const MT: usize, const NT: usize>(
    sums: &Sums<MT, NT>,
    staging: SharedAddr,
    target: &Target,
    finish: &impl Finish,
) {
    // Anew, so that nothing computed from it waited in registers during the K loop.
    let place = Place::new::<T>();
    let passes = (T::BLOCK_M * staged_stride::<T>()).div_ceil(T::RING_BYTES);
    // Fragments of a warp, and rows of the tile, in a pass.
    let fragments = MT as u32 / passes;
    let rows = T::BLOCK_M / passes;
    let warp_rows = 16 * fragments;

    let mut m = 0;
    while m < MT {
        let fragment = m as u32 % fragments;
        // SAFETY: between the barriers each lane writes its own elements; after them each thread reads its
        // own chunks, and stores what `target` has of them.
        unsafe {
            if fragment == 0 {
                // The ring, or the pass before, is read until here.
                bar_sync();
            }
            let first_row = place.row / (16 * MT as u32) * warp_rows + 16 * fragment + place.lane / 4;
            let first_column = place.column * NT as u32 * 8 + place.lane % 4 * 2;
            let mut n = 0;
            while n < NT {
                let [a, b, c, d] = sums.0[m][n];
                let column = first_column + 8 * n as u32;
                staged::<T>(staging, first_row, column).store_v2([a.to_bits(), b.to_bits()]);
                staged::<T>(staging, first_row + 8, column).store_v2([c.to_bits(), d.to_bits()]);
                n += 1;
            }
            if fragment + 1 == fragments {
                bar_sync();
                let pass = m as u32 / fragments;
                let to_row =
                    |row: u32| row / warp_rows * (16 * MT as u32) + pass * warp_rows + row % warp_rows;
                store_pass::<T, _>(place.thread, staging, rows, target, finish, to_row);
            }
        }
        m += 1;
    }
}

/// Stores what is staged: `rows` rows, of which row i is row `to_row(i)` of the tile.
///
/// # Safety
///
/// As [`store_tile`], after the barrier behind the staging.
#[inline(always)]
unsafe fn store_pass<T: Tile, F: Finish>(
    thread: u32,
    staging: SharedAddr,
    rows: u32,
    target: &Target,
    finish: &F,
    to_row: impl Fn(u32) -> u32,
) {
    let groups = T::BLOCK_N / WIDTH;
    let whole =
        F::IN_CHUNKS || target.first.address().is_multiple_of(16) && target.stride.is_multiple_of(WIDTH);
    let column = thread % groups * WIDTH;
    let present = target.columns.saturating_sub(column).min(WIDTH);
    // Eight threads read 16 bytes each at a time: every other four their second chunk first, so that no two
    // meet in a bank.
    let late = column / (4 * WIDTH) % 2 == 1;
    let mut staged_row = thread / groups;
    // Every thread has a row: a pass has those of a fragment at least.
    const { assert!(T::THREADS * WIDTH / T::BLOCK_N <= 16) };
    loop {
        let row = to_row(staged_row);
        if target.begin <= row && row < target.end && present > 0 {
            // SAFETY: this row and these columns are this thread's, staged before the barrier, and there in
            // `target`.
            unsafe {
                let first = staged::<T>(staging, staged_row, column + if late { CHUNK } else { 0 }).load_v4();
                let second =
                    staged::<T>(staging, staged_row, column + if late { 0 } else { CHUNK }).load_v4();
                let ([a, b, c, d], [e, f, g, h]) = if late { (second, first) } else { (first, second) };
                let sums = [a, b, c, d, e, f, g, h].map(f32::from_bits);
                let sums = finish.finish(row, column, present, sums);
                let to = target.first.offset(u64::from(row) * u64::from(target.stride) + u64::from(column));
                store_row(to, sums, if F::IN_CHUNKS { WIDTH } else { present }, whole);
            }
        }
        staged_row += T::THREADS / groups;
        if staged_row >= rows {
            break;
        }
    }
}

/// Rounds and stores the first `present` of eight sums; `whole` says whether eight may be stored at once.
///
/// # Safety
///
/// `to` is writable for `present` elements, and with `whole` a multiple of 16 bytes.
#[inline(always)]
#[track_caller]
pub(crate) unsafe fn store_row(to: Global<u16>, sums: [f32; WIDTH as usize], present: u32, whole: bool) {
    let [a, b, c, d, e, f, g, h] = sums;
    let words = [pack_f16x2(a, b), pack_f16x2(c, d), pack_f16x2(e, f), pack_f16x2(g, h)];
    // SAFETY: the caller's contract.
    unsafe {
        if whole && present == WIDTH {
            to.cast::<[u32; 4]>().store(words);
        } else {
            scatter(to, words, present);
        }
    }
}

/// The first `elements` of eight, one by one.
///
/// # Safety
///
/// `to` is writable for `elements`.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn scatter(to: Global<u16>, words: [u32; 4], elements: u32) {
    let mut i = 0;
    while i < WIDTH {
        if i < elements {
            let element = (words[i as usize / 2] >> (16 * (i % 2))) as u16;
            // SAFETY: the caller's contract.
            unsafe { to.offset(u64::from(i)).store(element) };
        }
        i += 1;
    }
}

/// Bytes from one staged row to the next: 32 more than a row has, so that the four rows that half a warp
/// writes at once lie in different banks. (A swizzle would do it, too, but its addresses differ by more than
/// constants, and the compiler keeps each of them in a register.)
const fn staged_stride<T: Tile>() -> u32 {
    T::BLOCK_N * 4 + 32
}

/// Where an element of a staged row lies.
#[inline(always)]
fn staged<T: Tile>(staging: SharedAddr, row: u32, column: u32) -> SharedAddr {
    staging.offset(row * staged_stride::<T>() + column * 4)
}

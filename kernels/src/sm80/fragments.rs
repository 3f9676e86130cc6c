//! A warp's part of a tile: fragments of x and W from shared memory, and their products.

use super::swizzle::chunk_at;
use crate::{
    device::{SharedAddr, ldmatrix_x4, mma_m16n8k16_f16, opaque, thread_idx_x},
    tile::{Tile, WARP},
};

/// Sums of a warp: MT × NT fragments of 16 × 8, four values of each in every lane.
///
/// Indexed by constants alone, after unrolling: an index known only at run time would move it to local
/// memory.
#[derive(Clone, Copy)]
pub(super) struct Sums<const MT: usize, const NT: usize>(pub [[[f32; 4]; NT]; MT]);

impl<const MT: usize, const NT: usize> Sums<MT, NT> {
    #[inline(always)]
    pub(super) fn zero() -> Self {
        // SAFETY: zeros are f32. (`[0.0; N]` would compile to a loop over local memory.)
        unsafe { core::mem::zeroed() }
    }
}

/// Where this thread's warp stands in the tile, and where its lane stands in the warp. Made anew for each
/// work item.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// First row of the warp.
    pub row: u32,
    /// Number of the warp along N.
    pub column: u32,
    pub lane: u32,
    /// Number of the thread in the CTA.
    pub thread: u32,
}

impl Place {
    #[inline(always)]
    pub(super) fn new<T: Tile>() -> Self {
        let thread = opaque(thread_idx_x());
        let (warp, lane) = (thread / WARP, thread % WARP);
        Self { row: warp / T::WARPS_N * (T::BLOCK_M / T::WARPS_M), column: warp % T::WARPS_N, lane, thread }
    }
}

/// Where this lane finds its row of the first operand's fragments: the rows from `row` on of a tile, K chunks
/// 0 and 1. A fragment 16 rows below is 16 rows further, since the swizzle repeats after eight; two chunks
/// further is an XOR away.
#[inline(always)]
pub(super) fn rows_at<const ROW_BYTES: u32>(tile: SharedAddr, row: u32, lane: u32) -> SharedAddr {
    chunk_at::<ROW_BYTES>(tile, row + lane % 16, lane / 16)
}

/// The same for the second operand, whose fragments are loaded in pairs.
#[inline(always)]
pub(super) fn columns_at<const ROW_BYTES: u32>(tile: SharedAddr, row: u32, lane: u32) -> SharedAddr {
    chunk_at::<ROW_BYTES>(tile, row + lane / 16 * 8 + lane % 8, lane / 8 % 2)
}

/// The same for the second operand, K chunks 0 to 3, one fragment of columns at a time.
#[inline(always)]
pub(super) fn columns_of_two_steps_at<const ROW_BYTES: u32>(
    tile: SharedAddr,
    row: u32,
    lane: u32,
) -> SharedAddr {
    chunk_at::<ROW_BYTES>(tile, row + lane % 8, lane / 8)
}

/// Fragments of 16 × 16, MT of them one below the other: the first operand of `mma`.
///
/// # Safety
///
/// All lanes of the warp call it with what [`rows_at`] gave; the tile has those rows, and no write races with
/// them.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn load_rows<const ROW_BYTES: u32, const MT: usize>(at: SharedAddr) -> [[u32; 4]; MT] {
    let mut fragments = [[0; 4]; MT];
    let mut i = 0;
    while i < MT {
        // SAFETY: the caller's contract.
        fragments[i] = unsafe { ldmatrix_x4(at.offset(16 * ROW_BYTES * i as u32)) };
        i += 1;
    }
    fragments
}

/// Fragments of 16 × 8, NT of them (an even number), from rows of the tile that are columns of the product:
/// the second operand.
///
/// # Safety
///
/// As [`load_rows`], with [`columns_at`].
#[inline(always)]
#[track_caller]
pub(super) unsafe fn load_columns<const ROW_BYTES: u32, const NT: usize>(at: SharedAddr) -> [[u32; 2]; NT] {
    let mut fragments = [[0; 2]; NT];
    let mut i = 0;
    while i < NT / 2 {
        // SAFETY: the caller's contract.
        let [a, b, c, d] = unsafe { ldmatrix_x4(at.offset(16 * ROW_BYTES * i as u32)) };
        (fragments[2 * i], fragments[2 * i + 1]) = ([a, b], [c, d]);
        i += 1;
    }
    fragments
}

/// Fragments of 16 × 8 for two steps of 16, `[step][fragment]`.
///
/// # Safety
///
/// As [`load_rows`], with [`columns_of_two_steps_at`].
#[inline(always)]
#[track_caller]
pub(super) unsafe fn load_columns_of_two_steps<const ROW_BYTES: u32, const NT: usize>(
    at: SharedAddr,
) -> [[[u32; 2]; NT]; 2] {
    let mut fragments = [[[0; 2]; NT]; 2];
    let mut i = 0;
    while i < NT {
        // SAFETY: the caller's contract.
        let [a, b, c, d] = unsafe { ldmatrix_x4(at.offset(8 * ROW_BYTES * i as u32)) };
        (fragments[0][i], fragments[1][i]) = ([a, b], [c, d]);
        i += 1;
    }
    fragments
}

/// sums += x · W of one step of 16. With PARTIAL, only the first `columns` fragments.
///
/// # Safety
///
/// All lanes of the warp call it with the same `columns`.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn multiply<const MT: usize, const NT: usize, const PARTIAL: bool>(
    sums: &mut Sums<MT, NT>,
    x: &[[u32; 4]; MT],
    w: &[[u32; 2]; NT],
    columns: u32,
) {
    let mut n = 0;
    while n < NT {
        if !PARTIAL || (n as u32) < columns {
            let mut m = 0;
            while m < MT {
                // SAFETY: the caller's contract.
                sums.0[m][n] = unsafe { mma_m16n8k16_f16(x[m], w[n], sums.0[m][n]) };
                m += 1;
            }
        }
        n += 1;
    }
}

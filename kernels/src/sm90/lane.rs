//! Where a thread of a consumer finds its part of a box of y: in its registers, and in shared memory.

use super::tile::{Tile, WARPGROUP};
use crate::{
    device::{SharedAddr, opaque, thread_idx_x},
    sm80::swizzle::chunk_at,
};

/// Where a thread's registers lie in its warpgroup's 64 rows.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    /// First row of registers 4 j and 4 j + 1; the other two are 8 rows below.
    pub row: u32,
    /// Column of registers 4 j, less 8 j.
    pub column: u32,
    /// Row that this lane addresses for `stmatrix`.
    pub matrix_row: u32,
    /// Chunk of 16 bytes that it addresses, of two.
    pub matrix_chunk: u32,
}

impl Lane {
    #[inline(always)]
    pub(super) fn new() -> Self {
        // Opaque, so that none of it waits in registers while the sums are made.
        let thread = opaque(thread_idx_x()) % WARPGROUP;
        let (warp, lane) = (thread / 32, thread % 32);
        Self {
            row: 16 * warp + lane / 4,
            column: 2 * (lane % 4),
            matrix_row: 16 * warp + lane % 16,
            matrix_chunk: lane / 16,
        }
    }
}

/// Where a chunk of 16 bytes of a box's row lies.
#[inline(always)]
pub(super) fn chunk<T: Tile>(to: SharedAddr, row: u32, chunk: u32) -> SharedAddr {
    match T::BOX_N {
        64 => chunk_at::<128>(to, row, chunk),
        32 => chunk_at::<64>(to, row, chunk),
        _ => chunk_at::<32>(to, row, chunk),
    }
}

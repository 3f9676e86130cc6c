//! How the rows of a tile lie in shared memory.
//!
//! A row is cut into chunks of 16 bytes, what one `cp.async` writes and one row of an `ldmatrix` reads.
//! `ldmatrix` reads the same chunk of eight rows at once, so those must lie in eight different groups of four
//! banks: the chunk's number is XORed with the row's, as far as the row's length lets two rows share a line
//! of 128 bytes.

use crate::device::SharedAddr;

/// Bytes of a chunk.
pub(crate) const CHUNK: u32 = 16;
/// f16 in a chunk.
pub(crate) const CHUNK_ELEMENTS: u32 = CHUNK / 2;

/// Where chunk `chunk` of row `row` lies in a tile whose rows have ROW_BYTES, a power of two from 32 on.
#[inline(always)]
pub(crate) fn chunk_at<const ROW_BYTES: u32>(tile: SharedAddr, row: u32, chunk: u32) -> SharedAddr {
    const { assert!(ROW_BYTES.is_power_of_two() && ROW_BYTES >= 2 * CHUNK) };
    let chunks = ROW_BYTES / CHUNK;
    let mixed = if chunks >= 8 { chunk ^ (row & 7) } else { chunk ^ ((row / (8 / chunks)) & (chunks - 1)) };
    tile.offset(row * ROW_BYTES + mixed * CHUNK)
}

/// From chunk c of a row to chunk c + 2, if bit 1 of c is not set.
#[inline(always)]
pub(crate) fn two_chunks_further(at: SharedAddr) -> SharedAddr {
    at.xor(2 * CHUNK)
}

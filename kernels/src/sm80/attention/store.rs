//! From registers to y: a warp's 16 rows cross shared memory and leave in 16 bytes a lane.

use crate::{
    Global,
    device::{SharedAddr, bar_warp_sync, pack_f16x2},
    sm80::{
        chunks,
        fragments::Sums,
        swizzle::{CHUNK, CHUNK_ELEMENTS, chunk_at},
    },
    tile::WARP,
};

/// Rows of a warp.
const ROWS: u32 = 16;

/// Where a warp's rows go.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// Column 0 of the head, in the warp's first row.
    pub first: Global<u16>,
    /// Row stride in elements.
    pub stride: u32,
    /// Rows that are stored; may be more than a warp has.
    pub rows: u32,
    /// Columns that are stored.
    pub columns: u32,
    /// Whether its chunks are multiples of 16 bytes.
    pub aligned: bool,
}

/// Multiplies each row by its factor, rounds and stores it.
///
/// # Safety
///
/// All lanes of the warp call it; `staging` has 16 rows of ROW bytes that nobody else touches from the CTA's
/// latest barrier on; the rows and columns of `target` are writable and this warp's.
#[inline(always)]
pub(super) unsafe fn store<const ROW: u32, const NT: usize>(
    sums: &Sums<1, NT>,
    factors: [f32; 2],
    staging: SharedAddr,
    target: Target,
    lane: u32,
) {
    // SAFETY: until the barrier each lane writes its own elements; after it each reads its own chunks, and
    // stores what `target` has of them.
    unsafe {
        let (row, word) = (lane / 4, 4 * (lane % 4));
        let mut n = 0;
        while n < NT {
            let [a, b, c, d] = sums.0[0][n];
            let at = chunk_at::<ROW>(staging, row, n as u32).offset(word);
            at.store_u32(pack_f16x2(a * factors[0], b * factors[0]));
            // The swizzle repeats after eight rows.
            at.offset(8 * ROW).store_u32(pack_f16x2(c * factors[1], d * factors[1]));
            n += 1;
        }
        bar_warp_sync();
        let row_chunks = ROW / CHUNK;
        let mut i = lane;
        while i < ROWS * row_chunks {
            let (row, chunk) = (i / row_chunks, i % row_chunks);
            let column = chunk * CHUNK_ELEMENTS;
            if row < target.rows && column < target.columns {
                let words = chunk_at::<ROW>(staging, row, chunk).load_v4();
                let to = u64::from(row) * u64::from(target.stride) + u64::from(column);
                chunks::store(target.first.offset(to), words, CHUNK_ELEMENTS, target.aligned);
            }
            i += WARP;
        }
    }
}

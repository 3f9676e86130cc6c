//! Eight f16 of a row at a time: in 16 bytes where they lie so, else one by one.

use super::{copy::gather, store::scatter, swizzle::CHUNK_ELEMENTS};
use crate::{Global, device::shfl_bfly};

/// Whether the chunks of all rows are multiples of 16 bytes.
#[inline(always)]
pub(super) fn aligned(matrix: Global<u16>, stride: u32) -> bool {
    matrix.address().is_multiple_of(16) && stride.is_multiple_of(CHUNK_ELEMENTS)
}

/// How many of the chunk's elements from `column` on are there in a row of `columns`.
#[inline(always)]
pub(super) fn present(column: u32, columns: u32) -> u32 {
    columns.saturating_sub(column).min(CHUNK_ELEMENTS)
}

/// The first `present` elements, zeros behind them. `aligned` says whether `from` is a multiple of 16 bytes.
///
/// # Safety
///
/// `present` elements are readable at `from`.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn load(from: Global<u16>, present: u32, aligned: bool) -> [u32; 4] {
    // SAFETY: the caller's contract.
    unsafe {
        if aligned && present == CHUNK_ELEMENTS {
            return from.cast::<[u32; 4]>().load();
        }
        gather(from, present)
    }
}

/// Stores the first `present` elements. `aligned` says whether `to` is a multiple of 16 bytes.
///
/// # Safety
///
/// `present` elements are writable at `to`, and no other access races with that.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn store(to: Global<u16>, words: [u32; 4], present: u32, aligned: bool) {
    // SAFETY: the caller's contract.
    unsafe {
        if aligned && present == CHUNK_ELEMENTS {
            to.cast::<[u32; 4]>().store(words);
            return;
        }
        scatter(to, words, present);
    }
}

/// The sum over the lanes whose numbers differ in the bits below `lanes`, a power of two; the same bits in
/// all of them.
///
/// # Safety
///
/// All lanes of the warp call it.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn sum_over(mut value: f32, lanes: u32) -> f32 {
    let mut mask = lanes / 2;
    while mask > 0 {
        // SAFETY: the caller's contract.
        value += f32::from_bits(unsafe { shfl_bfly(value.to_bits(), mask) });
        mask /= 2;
    }
    value
}

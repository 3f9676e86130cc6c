//! Making h visible: who has finished, who waits, who cleans up.
//!
//! Writer: all threads store h; CTA barrier; one thread adds to `finished` with release. Reader: one thread
//! loads `finished` with acquire until all work items of the row tile are there; CTA barrier; all threads
//! load h. The barriers carry the order from thread to thread, release and acquire from CTA to CTA (PTX ISA,
//! "Causality order").
//!
//! The last tile of y to pass sets both counters of its row tile back to zero, so that the next launch finds
//! them as this one did.

use crate::{Global, counters, params::Lora};

/// Announces that one work item of a row tile is stored. One thread, after a barrier.
///
/// # Safety
///
/// The counters are as [`Lora`] says; the stores of the CTA's other threads are ordered before.
#[inline(always)]
pub(crate) unsafe fn publish(lora: &Lora, row_tile: u32) {
    // SAFETY: the caller's contract.
    unsafe { word(lora, counters::finished(row_tile)).red_add_release(1) }
}

/// Whether `items` work items of a row tile are stored; if so, they may be read by this thread, and after a
/// barrier by others.
///
/// # Safety
///
/// The counters are as [`Lora`] says.
#[inline(always)]
#[track_caller]
pub(crate) unsafe fn is_ready(lora: &Lora, row_tile: u32, items: u32) -> bool {
    // SAFETY: the caller's contract.
    unsafe { word(lora, counters::finished(row_tile)).load_acquire() >= items }
}

/// Says that this tile of y will not look at `finished` again. The last of `tiles` sets both counters back.
///
/// # Safety
///
/// The counters are as [`Lora`] says; this CTA has seen its row tile ready, or does not need it.
#[inline(always)]
pub(crate) unsafe fn pass(lora: &Lora, row_tile: u32, tiles: u32) {
    // SAFETY: the caller's contract. `atom.inc` wraps `passed` itself. Nobody looks at `finished` any more:
    // all tiles have passed, and the next launch starts after this one.
    unsafe {
        if word(lora, counters::passed(row_tile)).atom_inc(tiles - 1) == tiles - 1 {
            word(lora, counters::finished(row_tile)).store_relaxed(0);
        }
    }
}

#[inline(always)]
fn word(lora: &Lora, word: u32) -> Global<u32> {
    lora.counters.offset(u64::from(word))
}

//! Barriers: a word goes from one lane to another through shared memory, and only the barrier orders that.

use crate::{
    device::{bar_sync as sync, bar_sync_some as sync_some, bar_warp_sync as warp_sync, block_dim_x},
    instructions::item::{Item, WARP},
};

/// Input: a word of each lane. Output: the words in reverse order, each through another warp.
#[inline(always)]
pub(in crate::instructions) unsafe fn bar_sync(item: Item) {
    let last = block_dim_x() - 1;
    // SAFETY: a word in, a word of shared memory and a word out of each lane; all lanes come to the barrier,
    // which orders the stores before the loads.
    unsafe {
        item.shared.offset(4 * item.lane).store_u32(item.get(item.lane));
        sync();
        item.set(item.lane, item.shared.offset(4 * (last - item.lane)).load_u32());
    }
}

/// Input: a word of each lane. Output: those of each warp in reverse order.
#[inline(always)]
pub(in crate::instructions) unsafe fn bar_warp_sync(item: Item) {
    // SAFETY: as above, within each warp.
    unsafe {
        item.shared.offset(4 * item.lane).store_u32(item.get(item.lane));
        warp_sync();
        item.set(item.lane, item.shared.offset(4 * (item.lane ^ (WARP - 1))).load_u32());
    }
}

/// Threads of a half of the CTA, two warps.
const HALF: u32 = 64;

/// Input: a word of each lane. Output: those of each half of the CTA in reverse order. Each half has a
/// barrier of its own, 1 or 15.
#[inline(always)]
pub(in crate::instructions) unsafe fn bar_sync_some(item: Item) {
    let half = item.lane / HALF;
    let last = half * HALF + HALF - 1;
    let slot = item.shared.offset(4 * item.lane);
    // SAFETY: as above, within each half, all of which takes its barrier's number.
    unsafe {
        slot.store_u32(item.get(item.lane));
        sync_some(1 + 14 * half, HALF);
        let word = item.shared.offset(4 * (last - item.lane % HALF)).load_u32();
        item.set(item.lane, word);
    }
}

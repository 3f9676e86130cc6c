//! Barriers: a word goes from one lane to another through shared memory, and only the barrier orders that.

use super::item::{Item, WARP};
use crate::device::{bar_sync as sync, bar_warp_sync as warp_sync, block_dim_x};

/// Input: a word of each lane. Output: the words in reverse order, each through another warp.
#[inline(always)]
pub(super) unsafe fn bar_sync(item: Item) {
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
pub(super) unsafe fn bar_warp_sync(item: Item) {
    // SAFETY: as above, within each warp.
    unsafe {
        item.shared.offset(4 * item.lane).store_u32(item.get(item.lane));
        warp_sync();
        item.set(item.lane, item.shared.offset(4 * (item.lane ^ (WARP - 1))).load_u32());
    }
}

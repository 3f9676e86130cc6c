//! Shuffles.

use crate::{device, instructions::item::Item};

/// Input: a word of each lane; then, of each lane, the mask that its number is XORed with. Output: the word
/// of that lane of its warp.
#[inline(always)]
pub(in crate::instructions) unsafe fn shfl_bfly(item: Item) {
    // SAFETY: two words in and one out of each lane; all lanes of the warp come to the shuffle.
    unsafe {
        let (value, mask) = (item.get(item.lane), item.get(device::block_dim_x() + item.lane));
        item.set(item.lane, device::shfl_bfly(value, mask));
    }
}

/// Input: a word of each lane. Output: that of the first lane of its warp.
#[inline(always)]
pub(in crate::instructions) unsafe fn shfl_first(item: Item) {
    // SAFETY: a word in and one out of each lane; all lanes of the warp come to the shuffle.
    unsafe { item.set(item.lane, device::shfl_first(item.get(item.lane))) }
}

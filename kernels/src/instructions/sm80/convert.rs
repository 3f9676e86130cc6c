//! Conversions.

use crate::{device, instructions::item::Item};

/// Input: two f32 of each lane, the lower one first. Output: both as f16 in a word.
#[inline(always)]
pub(in crate::instructions) unsafe fn pack_f16x2(item: Item) {
    // SAFETY: two words in and one out of each lane.
    unsafe {
        let [low, high] = [0, 1].map(|i| f32::from_bits(item.get(2 * item.lane + i)));
        item.set(item.lane, device::pack_f16x2(low, high));
    }
}

/// Input: two f16 in a word of each lane, the lower one first. Output: both as f32.
#[inline(always)]
pub(in crate::instructions) unsafe fn f16_to_f32(item: Item) {
    // SAFETY: a word in and two out of each lane.
    unsafe {
        let both = item.get(item.lane);
        item.set(2 * item.lane, device::f16_to_f32(both as u16).to_bits());
        item.set(2 * item.lane + 1, device::f16_to_f32((both >> 16) as u16).to_bits());
    }
}

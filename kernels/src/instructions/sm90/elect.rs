//! One lane of a warp.

use crate::{
    device::{elect as elected, shfl_bfly},
    instructions::item::Item,
};

/// Elects twice. No input. Output: of each lane how many of its warp were elected at first, from bit 8 on how
/// many the second time, from bit 16 on how many both times.
#[inline(always)]
pub(in crate::instructions) unsafe fn elect(item: Item) {
    // SAFETY: one word of each lane; all lanes of the warp come to each instruction.
    unsafe {
        let [first, second] = [elected(), elected()].map(u32::from);
        let mut count = first | second << 8 | (first & second) << 16;
        let mut mask = 1;
        while mask < 32 {
            count += shfl_bfly(count, mask);
            mask *= 2;
        }
        item.set(item.lane, count);
    }
}

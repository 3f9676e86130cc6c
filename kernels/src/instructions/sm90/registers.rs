//! Moving registers between warpgroups: what lanes hold must survive it.

use crate::{
    device::{setmaxnreg_dec as dec, setmaxnreg_inc as inc},
    instructions::item::Item,
};

/// Lanes of a warpgroup.
const WARPGROUP: u32 = 128;

/// All warpgroups give registers away. Input: a word of each lane. Output: the same.
#[inline(always)]
pub(in crate::instructions) unsafe fn setmaxnreg_dec(item: Item) {
    // SAFETY: a word in and one out of each lane; all warps come to it.
    unsafe {
        let word = item.get(item.lane);
        dec::<40>();
        item.set(item.lane, word);
    }
}

/// The first of three warpgroups gives registers away, the others take them. Input: a word of each lane.
/// Output: the same.
#[inline(always)]
pub(in crate::instructions) unsafe fn setmaxnreg_inc(item: Item) {
    // SAFETY: a word in and one out of each lane; all warps of a warpgroup take the same branch, and what the
    // first gives, 128 of 168 each, is what the others need, 56 each.
    unsafe {
        let word = item.get(item.lane);
        if item.lane < WARPGROUP {
            dec::<40>();
        } else {
            inc::<224>();
        }
        item.set(item.lane, word);
    }
}

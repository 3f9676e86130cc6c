//! Weak loads and stores of shared memory. Input: four words of each lane. They are stored to 1024 bytes of
//! shared memory in one layout and loaded in another, so that each word comes from another lane. (What a lane
//! has stored itself ptxas would keep in registers, and what is stored side by side it would store at once.)
//!
//! | layout | where word j of lane l is, in words |
//! |---|---|
//! | by words | 64 j + l |
//! | by pairs | 128 (j / 2) + 2 l + j mod 2 |
//! | by fours | 4 l + j |

use crate::{
    device::{SharedAddr, bar_sync},
    instructions::item::Item,
};

/// Lanes of the CTA.
const LANES: u32 = 64;

/// Where part `part` of `width` words of a lane's words is: by words, pairs or fours.
#[inline(always)]
fn at(item: Item, lane: u32, part: u32, width: u32) -> SharedAddr {
    item.shared.offset(4 * width * (LANES * part + lane))
}

/// Fetches the lane's words for `store`, gives what `load` finds when all are stored.
#[inline(always)]
unsafe fn pass(item: Item, store: impl Fn([u32; 4]), load: impl Fn() -> [u32; 4]) {
    // SAFETY: the lane's own words; all lanes come to the barrier.
    unsafe {
        store(item.input_at(4 * item.lane).cast::<[u32; 4]>().load());
        bar_sync();
        item.output_at(4 * item.lane).cast::<[u32; 4]>().store(load());
    }
}

/// Stored by fours, loaded by words.
#[inline(always)]
pub(in crate::instructions) unsafe fn load_u32(item: Item) {
    // SAFETY: each lane stores to words of its own, and the barrier of `pass` orders that before the loads.
    unsafe {
        pass(
            item,
            |value| at(item, item.lane, 0, 4).store_v4(value),
            || [0, 1, 2, 3].map(|part| at(item, item.lane, part, 1).load_u32()),
        );
    }
}

/// Stored by words, loaded by fours.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_u32(item: Item) {
    // SAFETY: each lane stores to words of its own, and the barrier of `pass` orders that before the loads.
    unsafe {
        pass(
            item,
            |value| {
                at(item, item.lane, 0, 1).store_u32(value[0]);
                at(item, item.lane, 1, 1).store_u32(value[1]);
                at(item, item.lane, 2, 1).store_u32(value[2]);
                at(item, item.lane, 3, 1).store_u32(value[3]);
            },
            || at(item, item.lane, 0, 4).load_v4(),
        );
    }
}

/// Stored by pairs, loaded by words.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_v2(item: Item) {
    // SAFETY: each lane stores to words of its own, and the barrier of `pass` orders that before the loads.
    unsafe {
        pass(
            item,
            |value| {
                at(item, item.lane, 0, 2).store_v2([value[0], value[1]]);
                at(item, item.lane, 1, 2).store_v2([value[2], value[3]]);
            },
            || [0, 1, 2, 3].map(|part| at(item, item.lane, part, 1).load_u32()),
        );
    }
}

/// Stored by pairs, loaded by fours.
#[inline(always)]
pub(in crate::instructions) unsafe fn load_v4(item: Item) {
    // SAFETY: each lane stores to words of its own, and the barrier of `pass` orders that before the loads.
    unsafe {
        pass(
            item,
            |value| {
                at(item, item.lane, 0, 2).store_v2([value[0], value[1]]);
                at(item, item.lane, 1, 2).store_v2([value[2], value[3]]);
            },
            || at(item, item.lane, 0, 4).load_v4(),
        );
    }
}

/// Stored by fours, loaded by words, by the lanes in reverse order.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_v4(item: Item) {
    // SAFETY: each lane stores to words of its own, and the barrier of `pass` orders that before the loads.
    unsafe {
        pass(
            item,
            |value| at(item, item.lane, 0, 4).store_v4(value),
            || [0, 1, 2, 3].map(|part| at(item, LANES - 1 - item.lane, part, 1).load_u32()),
        );
    }
}

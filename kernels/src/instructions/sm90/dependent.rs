//! Chains of launches, each of which may begin before the one ahead has ended. The input of the first is the
//! launch's, that of the others the output of the one ahead. Input: a word of each lane. Output: of the item
//! behind, which another CTA has made, three times the opposite lane's word, plus 1.

use crate::{
    device::{
        block_idx_x, griddepcontrol_launch_dependents as launch_dependents, griddepcontrol_wait as wait,
    },
    instructions::item::Item,
};

/// Lanes of a CTA.
const LANES: u32 = 64;

/// The step, behind a wait.
#[inline(always)]
#[track_caller]
unsafe fn step(item: Item) {
    let index = block_idx_x();
    let behind = if index + 1 == item.count { 0 } else { index + 1 };
    // `offset` wraps, so that it goes back, too.
    let items = u64::from(behind).wrapping_sub(u64::from(index));
    let input = item.input.offset(items.wrapping_mul(u64::from(LANES)));
    // SAFETY: an item's words; a word out of each lane.
    unsafe {
        let word = input.offset(u64::from(LANES - 1 - item.lane)).load();
        item.set(item.lane, word.wrapping_mul(3).wrapping_add(1));
    }
}

/// Nobody lets dependents begin before the end.
#[inline(always)]
pub(in crate::instructions) unsafe fn griddepcontrol_wait(item: Item) {
    // SAFETY: nothing of the launch ahead is touched before the wait.
    unsafe {
        wait();
        step(item);
    }
}

/// Everybody lets dependents begin at once.
#[inline(always)]
pub(in crate::instructions) unsafe fn griddepcontrol_launch_dependents(item: Item) {
    // SAFETY: nothing of the launch ahead is touched before the wait.
    unsafe {
        launch_dependents();
        wait();
        step(item);
    }
}

//! Asynchronous copies. No barrier: each lane reads back what it copied itself.

use crate::{
    Global,
    device::{self, SharedAddr},
    instructions::item::Item,
};

/// What is in shared memory before a copy lands there.
const BEFORE: [u32; 4] = [0xa5a5_a5a5; 4];

/// Copies that a lane has under way at once.
const SLOTS: u32 = 4;

/// Where `bytes` are copied from. Where there is nothing to copy: an address that nobody may read.
#[inline(always)]
fn from(item: Item, word: u32, bytes: u32) -> Global<u16> {
    if bytes == 0 { Global::from_address(16) } else { item.input_at(word).cast() }
}

/// 16 bytes out, from shared memory.
#[inline(always)]
#[track_caller]
unsafe fn give(item: Item, word: u32, from: SharedAddr) {
    // SAFETY: the caller's slot, and its own words of the output.
    unsafe { item.output_at(word).cast::<[u32; 4]>().store(from.load_v4()) }
}

/// Input: four words of each lane; then, of each lane, how many bytes of those to copy. Output: four words of
/// each lane, as they are in shared memory afterwards.
#[inline(always)]
pub(in crate::instructions) unsafe fn cp_async_16(item: Item) {
    let slot = item.shared.offset(16 * item.lane);
    // SAFETY: the slot is this lane's; it has waited for the copy before it reads.
    unsafe {
        let bytes = item.get(4 * device::block_dim_x() + item.lane);
        slot.store_v4(BEFORE);
        device::cp_async_16(slot, from(item, 4 * item.lane, bytes), bytes);
        device::cp_async_commit_group();
        device::cp_async_wait_group::<0>();
        give(item, 4 * item.lane, slot);
    }
}

/// Groups of two copies, of none, of one. Input: three times four words of each lane. Output: the same; the
/// first two are read while the third may be on its way.
#[inline(always)]
pub(in crate::instructions) unsafe fn cp_async_commit_group(item: Item) {
    let at = |i: u32| item.shared.offset(16 * (SLOTS * item.lane + i));
    let word = |i: u32| 4 * (3 * item.lane + i);
    // SAFETY: the slots are this lane's; it has waited for their groups before it reads them.
    unsafe {
        device::cp_async_16(at(0), item.input_at(word(0)).cast(), 16);
        device::cp_async_16(at(1), item.input_at(word(1)).cast(), 16);
        device::cp_async_commit_group();
        device::cp_async_commit_group();
        device::cp_async_16(at(2), item.input_at(word(2)).cast(), 16);
        device::cp_async_commit_group();
        device::cp_async_wait_group::<2>();
        give(item, word(0), at(0));
        give(item, word(1), at(1));
        device::cp_async_wait_group::<0>();
        give(item, word(2), at(2));
    }
}

/// A ring of [`SLOTS`] groups, each read as soon as the wait that covers it is over. Input: as many times
/// four words of each lane. Output: the same.
#[inline(always)]
pub(in crate::instructions) unsafe fn cp_async_wait_group(item: Item) {
    let at = |i: u32| item.shared.offset(16 * (SLOTS * item.lane + i));
    let word = |i: u32| 4 * (SLOTS * item.lane + i);
    let start = |i: u32| {
        // SAFETY: the slot is this lane's.
        unsafe {
            device::cp_async_16(at(i), item.input_at(word(i)).cast(), 16);
            device::cp_async_commit_group();
        }
    };
    start(0);
    start(1);
    start(2);
    start(3);
    // SAFETY: the lane has waited for each group before it reads.
    unsafe {
        device::cp_async_wait_group::<3>();
        give(item, word(0), at(0));
        device::cp_async_wait_group::<2>();
        give(item, word(1), at(1));
        device::cp_async_wait_group::<1>();
        give(item, word(2), at(2));
        device::cp_async_wait_group::<0>();
        give(item, word(3), at(3));
    }
}

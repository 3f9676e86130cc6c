//! Strong accesses: values, and the order that release and acquire make.

use crate::{
    device::{bar_sync, block_dim_x},
    instructions::item::Item,
};

/// Input: a word of each lane. Output: the same.
#[inline(always)]
pub(in crate::instructions) unsafe fn load_acquire(item: Item) {
    // SAFETY: a word in and one out of each lane.
    unsafe { item.set(item.lane, item.input_at(item.lane).load_acquire()) }
}

/// Input: a word of each lane. Output: the same.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_relaxed(item: Item) {
    // SAFETY: a word in and one out of each lane.
    unsafe { item.output_at(item.lane).store_relaxed(item.get(item.lane)) }
}

/// Input: of each lane what is in memory, and the last number before 0. Output: what the instruction gave,
/// and what was in memory afterwards.
#[inline(always)]
pub(in crate::instructions) unsafe fn atom_inc(item: Item) {
    // SAFETY: two words in and two out of each lane.
    unsafe {
        let counter = item.output_at(2 * item.lane + 1);
        counter.store_relaxed(item.get(2 * item.lane));
        item.set(2 * item.lane, counter.atom_inc(item.get(2 * item.lane + 1)));
    }
}

/// All lanes of all items draw from one counter. Input: of each lane the last number before 0, the same for
/// all. Output: the number that each drew.
#[inline(always)]
pub(in crate::instructions) unsafe fn atom_inc_contended(item: Item) {
    // SAFETY: a word in and one out of each lane; the counter is accessed by atomics alone.
    unsafe { item.set(item.lane, item.counters.atom_inc(item.get(item.lane))) }
}

/// All lanes add to one word. Input: a word of each lane. Output: their sum, modulo 2³².
#[inline(always)]
pub(in crate::instructions) unsafe fn red_add_release(item: Item) {
    // SAFETY: the barrier orders the store before the sums.
    unsafe {
        if item.is_first() {
            item.output.store_relaxed(0);
        }
        bar_sync();
        item.output.red_add_release(item.get(item.lane));
    }
}

/// A chain of messages through all items, in the order in which their CTAs draw tickets: the lanes of a CTA
/// read what those of the CTA before it left with weak stores, and only release and acquire order that. No
/// input. Output, by ticket instead of item: four words of each lane, those of the ticket before (0 before
/// the first) times 3, plus the lane's number, plus 1.
///
/// As `fused` waits for h: one thread polls, and the barrier passes on what it has acquired.
#[inline(always)]
pub(in crate::instructions) unsafe fn release_acquire(item: Item) {
    let (tickets, turn) = (item.counters, item.counters.offset(1));
    let row =
        |ticket: u32| item.outputs.cast::<[u32; 4]>().offset(u64::from(ticket * block_dim_x() + item.lane));
    // SAFETY: a ticket's words are written by the CTA that drew it, and read by that with the next one after
    // it has acquired the turn that the former released. A ticket waits for smaller ones, which CTAs have
    // that run, so that it does not wait for good.
    unsafe {
        if item.is_first() {
            item.shared.store_u32(tickets.atom_inc(item.count - 1));
        }
        bar_sync();
        let ticket = item.shared.load_u32();
        if item.is_first() {
            while turn.load_acquire() < ticket {}
        }
        bar_sync();
        let before = if ticket == 0 { [0; 4] } else { row(ticket - 1).load() };
        row(ticket).store(before.map(|word| word.wrapping_mul(3).wrapping_add(item.lane + 1)));
        bar_sync();
        if item.is_first() {
            turn.red_add_release(1);
        }
    }
}

//! Weak loads and stores of global memory. Input: four words of each lane. Output: the same.

use crate::{Global, instructions::item::Item};

/// Where the lane's four words are, in and out.
#[inline(always)]
fn words(item: Item) -> (Global<u32>, Global<u32>) {
    (item.input_at(4 * item.lane), item.output_at(4 * item.lane))
}

/// The lane's words, loaded half a word at a time.
///
/// # Safety
///
/// The lane's words are readable.
#[inline(always)]
#[track_caller]
unsafe fn by_halves(from: Global<u32>) -> [u32; 4] {
    let half = |i: u64| {
        // SAFETY: one of the eight halves.
        u32::from(unsafe { from.cast::<u16>().offset(i).load() })
    };
    [half(0) | half(1) << 16, half(2) | half(3) << 16, half(4) | half(5) << 16, half(6) | half(7) << 16]
}

/// Stores the lane's words half a word at a time.
///
/// # Safety
///
/// The lane's words are writable, and no other lane touches them.
#[inline(always)]
#[track_caller]
unsafe fn store_by_halves(to: Global<u32>, value: [u32; 4]) {
    let store = |i: u64, half: u32| {
        // SAFETY: one of the eight halves.
        unsafe { to.cast::<u16>().offset(i).store(half as u16) }
    };
    let [a, b, c, d] = value;
    store(0, a);
    store(1, a >> 16);
    store(2, b);
    store(3, b >> 16);
    store(4, c);
    store(5, c >> 16);
    store(6, d);
    store(7, d >> 16);
}

/// Half a word at a time is loaded, four words are stored.
#[inline(always)]
pub(in crate::instructions) unsafe fn load_u16(item: Item) {
    let (from, to) = words(item);
    // SAFETY: the lane's own words.
    unsafe { to.cast::<[u32; 4]>().store(by_halves(from)) }
}

/// A word at a time is loaded, half a word at a time is stored.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_u16(item: Item) {
    let (from, to) = words(item);
    // SAFETY: the lane's own words.
    unsafe {
        let value = [from.load(), from.offset(1).load(), from.offset(2).load(), from.offset(3).load()];
        store_by_halves(to, value);
    }
}

/// A word at a time is loaded, four are stored.
#[inline(always)]
pub(in crate::instructions) unsafe fn load_u32(item: Item) {
    let (from, to) = words(item);
    // SAFETY: the lane's own words.
    unsafe {
        let value = [from.load(), from.offset(1).load(), from.offset(2).load(), from.offset(3).load()];
        to.cast::<[u32; 4]>().store(value);
    }
}

/// Four words are loaded, and stored a word at a time.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_u32(item: Item) {
    let (from, to) = words(item);
    // SAFETY: the lane's own words.
    unsafe {
        let [a, b, c, d] = from.cast::<[u32; 4]>().load();
        to.store(a);
        to.offset(1).store(b);
        to.offset(2).store(c);
        to.offset(3).store(d);
    }
}

/// Four words are loaded, and stored half a word at a time.
#[inline(always)]
pub(in crate::instructions) unsafe fn load_v4(item: Item) {
    let (from, to) = words(item);
    // SAFETY: the lane's own words.
    unsafe { store_by_halves(to, from.cast::<[u32; 4]>().load()) }
}

/// A word at a time is loaded, the last first, and four are stored.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_v4(item: Item) {
    let (from, to) = words(item);
    // SAFETY: the lane's own words.
    unsafe {
        let (d, c) = (from.offset(3).load(), from.offset(2).load());
        let value = [from.load(), from.offset(1).load(), c, d];
        to.cast::<[u32; 4]>().store(value);
    }
}

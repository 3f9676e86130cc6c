//! Copies by the copy engine. Of a box that a launch loads or stores, the first input words are column, row
//! and bytes.

use super::staging::{fill, fill_before, give, next_rank, previous_rank, sync_cluster, wait};
use crate::{
    device::{
        self, SharedAddr, bar_sync, block_dim_x, cluster_ctarank, cluster_nctarank, fence_mbarrier_init,
        fence_proxy_async_shared, mapa, mbarrier_arrive_expect_tx as arrive_expect_tx, mbarrier_init,
        mbarrier_try_wait,
    },
    instructions::item::Item,
    maps::TensorMapRef,
};

/// Where boxes begin in shared memory, a multiple of every swizzle's pattern; barriers are below.
const FIRST: u32 = 1024;
/// Bytes of the largest box.
const BOX: u32 = 8192;
/// Bytes of a box where several are under way.
const SMALL_BOX: u32 = 2048;

/// A box in global memory, and how many bytes it has.
#[derive(Clone, Copy)]
struct BoxAt {
    column: u32,
    row: u32,
    bytes: u32,
}

impl BoxAt {
    /// The one that the first input words name.
    ///
    /// # Safety
    ///
    /// They are words of the item.
    #[inline(always)]
    #[track_caller]
    unsafe fn of(item: Item) -> Self {
        // SAFETY: the caller's contract.
        unsafe { Self { column: item.get(0), row: item.get(1), bytes: item.get(2) } }
    }
}

/// Makes the CTA's barrier, of one arrival a phase, and puts something into shared memory that is to be
/// overwritten; fenced, for this CTA.
///
/// # Safety
///
/// All lanes of the CTA call it, first.
#[inline(always)]
#[track_caller]
unsafe fn prepare(item: Item, bytes: u32) {
    // SAFETY: nobody touches the bytes before the caller's barrier.
    unsafe {
        if item.is_first() {
            mbarrier_init(item.shared, 1);
            fence_mbarrier_init();
        }
        fill_before(item, item.shared.offset(FIRST), bytes);
        fence_proxy_async_shared();
    }
}

/// Loads a box. Output: the shared memory where it lies, and behind it up to [`BOX`].
#[inline(always)]
pub(in crate::instructions) unsafe fn load_box(item: Item, map: TensorMapRef) {
    // SAFETY: the barrier expects the box's bytes, which nobody touches until it is over.
    unsafe {
        let source = BoxAt::of(item);
        prepare(item, BOX);
        bar_sync();
        if item.is_first() {
            arrive_expect_tx(item.shared, source.bytes);
            device::load_box(item.shared.offset(FIRST), map, source.column, source.row, item.shared);
        }
        wait(item.shared, 0);
        give(item, 0, item.shared.offset(FIRST), BOX);
    }
}

/// [`load_box`] of a map that was prefetched.
#[inline(always)]
pub(in crate::instructions) unsafe fn prefetch_tensor_map(item: Item, map: TensorMapRef) {
    // SAFETY: the launch has a map; the rest is as there.
    unsafe {
        if item.is_first() {
            device::prefetch_tensor_map(map);
        }
        load_box(item, map);
    }
}

/// Loads a box of up to [`SMALL_BOX`] bytes twice, to two places, as the bytes of one phase. Output: both
/// places; then four times whether the phase was over before the second load had started, which must not be.
#[inline(always)]
pub(in crate::instructions) unsafe fn mbarrier_arrive_expect_tx(item: Item, map: TensorMapRef) {
    let first = item.shared.offset(FIRST);
    // SAFETY: the barrier expects the bytes of both, which nobody touches until it is over.
    unsafe {
        let source = BoxAt::of(item);
        prepare(item, 2 * SMALL_BOX);
        bar_sync();
        if item.is_first() {
            arrive_expect_tx(item.shared, 2 * source.bytes);
            device::load_box(first, map, source.column, source.row, item.shared);
            let early = u32::from(mbarrier_try_wait(item.shared, 0));
            device::load_box(first.offset(SMALL_BOX), map, source.column, source.row, item.shared);
            item.output_at(2 * SMALL_BOX / 4).cast::<[u32; 4]>().store([early; 4]);
        }
        wait(item.shared, 0);
        give(item, 0, first, 2 * SMALL_BOX);
    }
}

/// Each CTA loads a box to some CTAs of the cluster. Input: the box, then the mask of CTAs, then the bytes
/// that will come to this CTA. Output: of each CTA of the cluster what it sent, [`SMALL_BOX`] bytes.
#[inline(always)]
pub(in crate::instructions) unsafe fn load_box_multicast(item: Item, map: TensorMapRef) {
    let (rank, size) = (cluster_ctarank(), cluster_nctarank());
    let first = item.shared.offset(FIRST);
    // SAFETY: each CTA's barrier expects what all of them send there, to a place of the sender's; all have
    // begun behind the cluster's first barrier, and end behind its second.
    unsafe {
        let source = BoxAt::of(item);
        prepare(item, size * SMALL_BOX);
        if item.is_first() {
            arrive_expect_tx(item.shared, item.get(4));
        }
        sync_cluster();
        if item.is_first() {
            let to = first.offset(rank * SMALL_BOX);
            device::load_box_multicast(to, map, source.column, source.row, item.shared, item.get(3) as u16);
        }
        wait(item.shared, 0);
        give(item, 0, first, size * SMALL_BOX);
        sync_cluster();
    }
}

/// Puts `bytes` of input words from `word` on into shared memory, for the copy engine.
///
/// # Safety
///
/// All lanes of the CTA call it; the bytes are not in use.
#[inline(always)]
#[track_caller]
unsafe fn place(item: Item, word: u32, at: SharedAddr, bytes: u32) {
    // SAFETY: the caller's contract; all lanes fence what they wrote before the barrier.
    unsafe {
        fill(item, word, at, bytes);
        fence_proxy_async_shared();
        bar_sync();
    }
}

/// Input words before the bytes of boxes.
const HEAD: u32 = 4;

/// Stores a box, and overwrites the shared memory when that has been read. Input: the box; a word that is
/// ignored; the shared memory of up to [`BOX`] bytes where it lies. No output: it is in the map's matrix.
#[inline(always)]
pub(in crate::instructions) unsafe fn store_box(item: Item, map: TensorMapRef) {
    let from = item.shared.offset(FIRST);
    // SAFETY: the bytes are fenced, and stay until they have been read.
    unsafe {
        let target = BoxAt::of(item);
        place(item, HEAD, from, BOX);
        if item.is_first() {
            device::store_box(map, target.column, target.row, from);
            device::bulk_commit_group();
            device::bulk_wait_group_read::<0>();
        }
        bar_sync();
        fill_before(item, from, BOX);
    }
}

/// Starts storing box `number`, which lies at `from`, under the one of number 0.
///
/// # Safety
///
/// One lane calls it; the bytes are fenced, and stay until they have been read.
#[inline(always)]
#[track_caller]
unsafe fn store_under(map: TensorMapRef, target: BoxAt, number: u32, rows: u32, from: SharedAddr) {
    // SAFETY: the caller's contract.
    unsafe { device::store_box(map, target.column, target.row + number * rows, from) }
}

/// Groups of two stores, of none, of one: five boxes, one under the other, through three places. Input: the
/// first box; the number of its rows; the shared memory of the five, [`SMALL_BOX`] bytes each. No output.
#[inline(always)]
pub(in crate::instructions) unsafe fn bulk_commit_group(item: Item, map: TensorMapRef) {
    let at = |i: u32| item.shared.offset(FIRST + i * SMALL_BOX);
    let word = |i: u32| HEAD + i * SMALL_BOX / 4;
    // SAFETY: a place is written again when the group that reads it has been waited for.
    unsafe {
        let (target, rows) = (BoxAt::of(item), item.get(3));
        place(item, word(0), at(0), 3 * SMALL_BOX);
        if item.is_first() {
            store_under(map, target, 0, rows, at(0));
            store_under(map, target, 1, rows, at(1));
            device::bulk_commit_group();
            device::bulk_commit_group();
            store_under(map, target, 2, rows, at(2));
            device::bulk_commit_group();
            device::bulk_wait_group_read::<2>();
        }
        bar_sync();
        place(item, word(3), at(0), 2 * SMALL_BOX);
        if item.is_first() {
            store_under(map, target, 3, rows, at(0));
            store_under(map, target, 4, rows, at(1));
            device::bulk_commit_group();
            device::bulk_wait_group_read::<0>();
        }
    }
}

/// Groups of one store each: four boxes, one under the other, through two places, each taken again as soon as
/// the wait that covers it is over. Input: the first box; the number of its rows; the shared memory of the
/// four, [`SMALL_BOX`] bytes each. No output.
#[inline(always)]
pub(in crate::instructions) unsafe fn bulk_wait_group_read(item: Item, map: TensorMapRef) {
    let at = |i: u32| item.shared.offset(FIRST + i % 2 * SMALL_BOX);
    // SAFETY: a place is written again when the group that reads it has been waited for.
    unsafe {
        let (target, rows) = (BoxAt::of(item), item.get(3));
        let mut i = 0;
        while i < 4 {
            place(item, HEAD + i * SMALL_BOX / 4, at(i), SMALL_BOX);
            if item.is_first() {
                store_under(map, target, i, rows, at(i));
                device::bulk_commit_group();
                // All but the one that has just begun: the next place is free.
                device::bulk_wait_group_read::<1>();
            }
            bar_sync();
            i += 1;
        }
        if item.is_first() {
            device::bulk_wait_group_read::<0>();
        }
    }
}

/// Bytes that a CTA may send.
const SENT: u32 = 1024;

/// Each CTA sends words to the next one of its cluster. Input: [`SENT`] bytes; then how many of them to send,
/// and how many will come, multiples of 16. Output: what came, and behind it up to [`SENT`].
#[inline(always)]
pub(in crate::instructions) unsafe fn copy_to_cluster(item: Item) {
    let peer = next_rank();
    let (to, from) = (item.shared.offset(FIRST), item.shared.offset(FIRST + SENT));
    // SAFETY: each CTA's barrier expects what the one before sends; all have begun behind the cluster's first
    // barrier, and end behind its second.
    unsafe {
        prepare(item, SENT);
        fill(item, 0, from, SENT);
        fence_proxy_async_shared();
        if item.is_first() {
            arrive_expect_tx(item.shared, item.get(SENT / 4 + 1));
        }
        sync_cluster();
        if item.is_first() {
            device::copy_to_cluster(mapa(to, peer), from, item.get(SENT / 4), mapa(item.shared, peer));
        }
        wait(item.shared, 0);
        give(item, 0, to, SENT);
        sync_cluster();
    }
}

/// Each CTA sends words to the next one of its cluster, and others to the same place when all lanes there
/// have read the first. Input: [`SENT`] bytes, twice. Output: what came, twice.
#[inline(always)]
pub(in crate::instructions) unsafe fn mbarrier_arrive_release_cluster(item: Item) {
    let (to, from) = (item.shared.offset(FIRST), item.shared.offset(FIRST + SENT));
    let read = item.shared.offset(8);
    // SAFETY: each CTA's first barrier expects what the one before sends, its second one an arrival of each
    // lane of the one behind; all have begun behind the cluster's first barrier, and end behind its second.
    unsafe {
        if item.is_first() {
            mbarrier_init(read, block_dim_x());
        }
        prepare(item, SENT);
        fill(item, 0, from, 2 * SENT);
        fence_proxy_async_shared();
        sync_cluster();
        let mut round = 0;
        while round < 2 {
            if item.is_first() {
                arrive_expect_tx(item.shared, SENT);
                // Of the first words there is nothing to be waited for.
                while !device::mbarrier_try_wait_cluster(read, round ^ 1) {}
                let (to, full) = (mapa(to, next_rank()), mapa(item.shared, next_rank()));
                device::copy_to_cluster(to, from.offset(round * SENT), SENT, full);
            }
            wait(item.shared, round);
            give(item, round * SENT / 4, to, SENT);
            fence_proxy_async_shared();
            device::mbarrier_arrive_release_cluster(mapa(read, previous_rank()));
            round += 1;
        }
        sync_cluster();
    }
}

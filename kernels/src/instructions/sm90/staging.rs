//! Bytes between global and shared memory, through the lanes of a CTA.

use crate::{
    device::{
        SharedAddr, bar_warp_sync, barrier_cluster_arrive, barrier_cluster_wait, block_dim_x,
        cluster_ctarank, cluster_nctarank, mbarrier_try_wait,
    },
    instructions::item::Item,
};

/// What is in shared memory before something else lands there.
pub(super) const BEFORE: u32 = 0xa5a5_a5a5;

/// Stores input words from `word` on to the `bytes` of shared memory at `to`, a multiple of 16 each.
///
/// # Safety
///
/// All lanes of the CTA call it; the words are the item's; nobody else touches the bytes until a barrier.
#[inline(always)]
#[track_caller]
pub(in crate::instructions) unsafe fn fill(item: Item, word: u32, to: SharedAddr, bytes: u32) {
    let mut at = 16 * item.lane;
    while at < bytes {
        // SAFETY: the caller's contract; each lane has chunks of its own.
        unsafe { to.offset(at).store_v4(item.input_at(word + at / 4).cast::<[u32; 4]>().load()) };
        at += 16 * block_dim_x();
    }
}

/// Stores [`BEFORE`] to all words of as many bytes.
///
/// # Safety
///
/// As [`fill`].
#[inline(always)]
#[track_caller]
pub(in crate::instructions) unsafe fn fill_before(item: Item, to: SharedAddr, bytes: u32) {
    let mut at = 16 * item.lane;
    while at < bytes {
        // SAFETY: as above.
        unsafe { to.offset(at).store_v4([BEFORE; 4]) };
        at += 16 * block_dim_x();
    }
}

/// Stores as many bytes of shared memory as the output words from `word` on.
///
/// # Safety
///
/// All lanes of the CTA call it; the bytes are ordered before; the words are the item's.
#[inline(always)]
#[track_caller]
pub(in crate::instructions) unsafe fn give(item: Item, word: u32, from: SharedAddr, bytes: u32) {
    let mut at = 16 * item.lane;
    while at < bytes {
        // SAFETY: the caller's contract; each lane has chunks of its own.
        unsafe { item.output_at(word + at / 4).cast::<[u32; 4]>().store(from.offset(at).load_v4()) };
        at += 16 * block_dim_x();
    }
}

/// Waits until the phase of this parity is over.
///
/// # Safety
///
/// As [`mbarrier_try_wait`].
#[inline(always)]
#[track_caller]
pub(in crate::instructions) unsafe fn wait(barrier: SharedAddr, parity: u32) {
    // SAFETY: the caller's contract.
    unsafe { while !mbarrier_try_wait(barrier, parity) {} }
}

/// The barrier of a cluster.
///
/// # Safety
///
/// All threads of the cluster call it.
#[inline(always)]
#[track_caller]
pub(in crate::instructions) unsafe fn sync_cluster() {
    // SAFETY: the caller's contract. Lanes come together first, as `aligned` demands.
    unsafe {
        bar_warp_sync();
        barrier_cluster_arrive();
        barrier_cluster_wait();
    }
}

/// The number of the CTA before this one in its cluster, around.
#[inline(always)]
pub(super) fn previous_rank() -> u32 {
    let rank = cluster_ctarank();
    if rank == 0 { cluster_nctarank() - 1 } else { rank - 1 }
}

/// The number of the CTA behind this one in its cluster, around.
#[inline(always)]
pub(super) fn next_rank() -> u32 {
    let next = cluster_ctarank() + 1;
    if next == cluster_nctarank() { 0 } else { next }
}

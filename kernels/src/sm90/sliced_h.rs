//! h of small ranks: each CTA of a cluster multiplies x by A in its own steps of K, all of them get the f32
//! sums of each, and every CTA adds them in the order of ranks, so that h is the same everywhere.
//!
//! As in [`own_h`](super::own_h), a warpgroup deals with those of the same number in the other CTAs. What it
//! has been sent is read by threads, and written by the copy engines of others: that they may write again, it
//! says by an arrival that is released to the cluster.

use super::{
    barriers::{Turn, wait, wait_for_readers},
    board::Board,
    consumer::Consumer,
    own_h::{h_of, round},
    store::sync_warpgroup,
    tile::{Tile, WARPGROUP, WARPGROUP_ROWS},
};
use crate::device::{
    SharedAddr, Sums, copy_to_cluster, fence_proxy_async_shared, mapa, mbarrier_arrive_expect_tx,
    mbarrier_arrive_release_cluster, thread_idx_x,
};

/// Where a warpgroup's sums of CTA `rank` lie.
#[inline(always)]
fn place<T: Tile>(shared: SharedAddr, warpgroup: u32, rank: u32) -> SharedAddr {
    shared.offset(T::PARTIALS_OFFSET + (warpgroup * T::PARTIALS + rank) * T::PARTIAL_BYTES)
}

/// Four of a thread's sums in such a place: all threads have theirs in the same order.
#[inline(always)]
fn four(place: SharedAddr, thread: u32, i: u32) -> SharedAddr {
    place.offset((i * WARPGROUP + thread) * 16)
}

/// Sends this CTA's sums to the others.
///
/// `turn` counts the tiles that have h.
///
/// # Safety
///
/// All threads of the warpgroup call it, in all CTAs of the cluster for the same row tile.
#[inline(always)]
pub(super) unsafe fn send<T: Tile, const P: usize>(consumer: &Consumer<T>, turn: Turn, sums: &Sums<P>) {
    const { assert!(2 * P as u32 == T::H) };
    let (cluster, barriers, warpgroup) = (consumer.cluster, consumer.barriers, consumer.warpgroup);
    let thread = thread_idx_x() % WARPGROUP;
    let own = place::<T>(consumer.shared, warpgroup, cluster.rank());
    // SAFETY: all CTAs have read the sums of the tile before when their warpgroups have arrived, so that they
    // may be written here and there; what is written here is fenced before it is copied.
    unsafe {
        wait_for_readers(barriers.h_empty(warpgroup), turn.free());
        let mut i = 0;
        while i < P / 4 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|j| sums.registers()[4 * i + j].to_bits());
            four(own, thread, i as u32).store_v4([a, b, c, d]);
            i += 1;
        }
        fence_proxy_async_shared();
        sync_warpgroup(warpgroup);
        let h_full = barriers.h_full(warpgroup);
        if thread == 0 {
            mbarrier_arrive_expect_tx(h_full, (cluster.size() - 1) * T::PARTIAL_BYTES);
        }
        if thread < cluster.size() && thread != cluster.rank() {
            copy_to_cluster(mapa(own, thread), own, T::PARTIAL_BYTES, mapa(h_full, thread));
        }
    }
}

/// Waits for the others' sums, adds all of them, and rounds h for the expand.
///
/// # Safety
///
/// All threads of the warpgroup call it, after [`send`]; the board shows the item.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn receive<T: Tile, const P: usize>(consumer: &Consumer<T>, board: Board<T>, turn: Turn) {
    let warpgroup = consumer.warpgroup;
    let thread = thread_idx_x() % WARPGROUP;
    // SAFETY: a barrier of this CTA, whose phases the warpgroup follows; behind it the others' sums have
    // landed, and this thread reads its own and its counterparts'. h is fenced before it is multiplied.
    unsafe {
        wait(consumer.barriers.h_full(warpgroup), turn.parity);
        let mut sums = [0.0; P];
        let mut rank = 0;
        while rank < consumer.cluster.size() {
            let from = place::<T>(consumer.shared, warpgroup, rank);
            let mut i = 0;
            while i < P / 4 {
                let four = four(from, thread, i as u32).load_v4();
                let mut j = 0;
                while j < 4 {
                    sums[4 * i + j] += f32::from_bits(four[j]);
                    j += 1;
                }
                i += 1;
            }
            rank += 1;
        }
        let h = h_of::<T>(consumer.shared, warpgroup);
        round(board, 0, warpgroup * WARPGROUP_ROWS, h, &Sums::from_registers(sums));
        fence_proxy_async_shared();
        sync_warpgroup(warpgroup);
    }
}

/// Says to all CTAs that this warpgroup has read their sums.
///
/// # Safety
///
/// All threads of the warpgroup call it, after [`receive`].
#[inline(always)]
pub(super) unsafe fn release<T: Tile>(consumer: &Consumer<T>) {
    let peer = thread_idx_x() % WARPGROUP;
    if peer < consumer.cluster.size() {
        // SAFETY: one arrival of each CTA a phase; the CTA is there until the cluster's last barrier.
        unsafe {
            mbarrier_arrive_release_cluster(mapa(consumer.barriers.h_empty(consumer.warpgroup), peer));
        }
    }
}

//! Cooperative h: the CTAs of a cluster share a row tile, each makes its panels of h beside its tile of y,
//! and all get all of them.
//!
//! A warpgroup needs h of its own 64 rows alone, so each deals with the warpgroups of the same number in the
//! other CTAs: it rounds its panels into its own shared memory, where the expand will read them, and the copy
//! engine takes them to the same place in the other CTAs. With a cluster of one it is *recomputed h*.

use super::{
    barriers::{Turn, wait},
    board::Board,
    consumer::Consumer,
    lane::Lane,
    store::sync_warpgroup,
    tile::{PANEL_BYTES, Tile, WARPGROUP, WARPGROUP_ROWS},
};
use crate::{
    device::{
        SharedAddr, Sums, copy_to_cluster, fence_proxy_async_shared, mapa, mbarrier_arrive_cluster,
        mbarrier_arrive_expect_tx, pack_f16x2, stmatrix_x4, thread_idx_x,
    },
    sm80::swizzle::chunk_at,
};

/// This warpgroup's rows of h.
pub(super) fn h_of<T: Tile>(shared: SharedAddr, warpgroup: u32) -> SharedAddr {
    shared.offset(T::H_OFFSET + warpgroup * T::MAX_PANELS * PANEL_BYTES)
}

/// Rounds this CTA's panels and sends them to the other CTAs.
///
/// `turn` counts the tiles that have h; `panels` is how many the row tile has, `own` how many of them this
/// CTA makes.
///
/// # Safety
///
/// All threads of the warpgroup call it, in all CTAs of the cluster for the same row tile; the board shows
/// the item.
#[inline(always)]
pub(super) unsafe fn send<T: Tile, const P: usize>(
    consumer: &Consumer<T>,
    board: Board<T>,
    turn: Turn,
    panels: u32,
    own: u32,
    sums: Sums<P>,
) {
    const { assert!(2 * P as u32 == T::H) };
    let (cluster, barriers, warpgroup) = (consumer.cluster, consumer.barriers, consumer.warpgroup);
    let thread = thread_idx_x() % WARPGROUP;
    let first = h_of::<T>(consumer.shared, warpgroup).offset(cluster.rank() * T::PANELS * PANEL_BYTES);
    // SAFETY: the other CTAs have read the h before when their warpgroups have arrived, so that it may be
    // written here and there; what is written here is fenced before it is copied and multiplied.
    unsafe {
        wait(barriers.h_empty(warpgroup), turn.free());
        let mut i = 0;
        while i < T::PANELS {
            if i < own {
                round(board, i, warpgroup * WARPGROUP_ROWS, first.offset(i * PANEL_BYTES), &sums);
            }
            i += 1;
        }
        fence_proxy_async_shared();
        sync_warpgroup(warpgroup);
        let h_full = barriers.h_full(warpgroup);
        if thread == 0 {
            mbarrier_arrive_expect_tx(h_full, (panels - own) * PANEL_BYTES);
        }
        if own > 0 && thread < cluster.size() && thread != cluster.rank() {
            copy_to_cluster(mapa(first, thread), first, own * PANEL_BYTES, mapa(h_full, thread));
        }
    }
}

/// Waits for the other CTAs' panels.
///
/// # Safety
///
/// All threads of the warpgroup call it, after [`send`].
#[inline(always)]
#[track_caller]
pub(super) unsafe fn receive<T: Tile>(consumer: &Consumer<T>, turn: Turn) {
    // SAFETY: a barrier of this CTA, whose phases the warpgroup follows.
    unsafe { wait(consumer.barriers.h_full(consumer.warpgroup), turn.parity) }
}

/// Says to all CTAs that this warpgroup has multiplied its h.
///
/// # Safety
///
/// All threads of the warpgroup call it, when the products are over.
#[inline(always)]
pub(super) unsafe fn release<T: Tile>(consumer: &Consumer<T>) {
    let peer = thread_idx_x() % WARPGROUP;
    if peer < consumer.cluster.size() {
        // SAFETY: one arrival of each CTA a phase; the CTA is there until the cluster's last barrier.
        unsafe { mbarrier_arrive_cluster(mapa(consumer.barriers.h_empty(consumer.warpgroup), peer)) };
    }
}

/// `f16( s · )` of panel `i` of this CTA's, to shared memory in the 32-byte swizzle. Other adapters' rows,
/// and padding, are written as zero, not computed: infinity times zero is not.
///
/// # Safety
///
/// All threads of the warpgroup call it; the panel is on the board; `to` is writable.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn round<T: Tile, const R: usize>(
    board: Board<T>,
    i: u32,
    first_row: u32,
    to: SharedAddr,
    sums: &Sums<R>,
) {
    let lane = Lane::new();
    // SAFETY: the caller's contract.
    unsafe {
        let panel = board.panel(i);
        let row = first_row + lane.row;
        let value = |register: usize, below: u32, column: u32| {
            let row = row + below;
            let there = panel.begin <= row && row < panel.end && lane.column + column < panel.real;
            if there { panel.scale * sums.registers()[8 * i as usize + register] } else { 0.0 }
        };
        let words = [
            pack_f16x2(value(0, 0, 0), value(1, 0, 1)),
            pack_f16x2(value(2, 8, 0), value(3, 8, 1)),
            pack_f16x2(value(4, 0, 8), value(5, 0, 9)),
            pack_f16x2(value(6, 8, 8), value(7, 8, 9)),
        ];
        stmatrix_x4(chunk_at::<32>(to, lane.matrix_row, lane.matrix_chunk), words);
    }
}

//! Barriers in shared memory.

use super::staging::{sync_cluster, wait};
use crate::{
    device::{
        bar_sync, bar_warp_sync, barrier_cluster_arrive_relaxed, barrier_cluster_wait, cluster_ctarank,
        cluster_nctarank, fence_mbarrier_init, mapa, mbarrier_arrive as arrive,
        mbarrier_arrive_cluster as arrive_cluster, mbarrier_init as init, mbarrier_try_wait as try_wait,
    },
    instructions::item::Item,
};

/// Lanes of a CTA.
const LANES: u32 = 64;

/// Each lane has a barrier. Input: of each lane how many arrivals a phase has, at least 1. Output: how often
/// the lane had arrived when the first phase was over.
#[inline(always)]
pub(in crate::instructions) unsafe fn mbarrier_init(item: Item) {
    let barrier = item.shared.offset(8 * item.lane);
    // SAFETY: the lane's own barrier.
    unsafe {
        let arrivals = item.get(item.lane);
        init(barrier, arrivals);
        let mut arrived = 0;
        let mut over = false;
        while !over {
            arrive(barrier);
            arrived += 1;
            over = try_wait(barrier, 0);
            // With the last one the phase is over for sure, but a try may be in vain.
            if arrived == arrivals && !over {
                wait(barrier, 0);
                over = true;
            }
        }
        item.set(item.lane, arrived);
    }
}

/// Each lane has a barrier of one arrival a phase, and looks at both parities in three phases. No input.
/// Output: of each lane bit 2 p + q for what the wait for parity q gave in phase p. What must be over is
/// waited for.
#[inline(always)]
pub(in crate::instructions) unsafe fn mbarrier_try_wait(item: Item) {
    let barrier = item.shared.offset(8 * item.lane);
    // SAFETY: the lane's own barrier.
    unsafe {
        init(barrier, 1);
        let mut seen = 0;
        let mut phase = 0;
        while phase < 3 {
            let current = phase % 2;
            seen |= u32::from(try_wait(barrier, current)) << (2 * phase + current);
            wait(barrier, current ^ 1);
            seen |= 1 << (2 * phase + (current ^ 1));
            arrive(barrier);
            phase += 1;
        }
        item.set(item.lane, seen);
    }
}

/// Words go from lane to lane through shared memory, and only the barrier orders that. Input: two words of
/// each lane. Output: the first ones of all lanes in reverse order, then the second ones, through the same
/// places.
#[inline(always)]
pub(in crate::instructions) unsafe fn mbarrier_arrive(item: Item) {
    let barrier = item.shared.offset(4 * LANES);
    let own = item.shared.offset(4 * item.lane);
    let other = item.shared.offset(4 * (LANES - 1 - item.lane));
    // SAFETY: the barrier is made before the CTA's, and has an arrival of each lane a phase; places are
    // written before one phase is over, read behind it, and written again behind the next.
    unsafe {
        if item.is_first() {
            init(barrier, LANES);
        }
        bar_sync();
        own.store_u32(item.get(item.lane));
        arrive(barrier);
        wait(barrier, 0);
        item.set(item.lane, other.load_u32());
        arrive(barrier);
        wait(barrier, 1);
        own.store_u32(item.get(LANES + item.lane));
        arrive(barrier);
        wait(barrier, 0);
        item.set(LANES + item.lane, other.load_u32());
    }
}

/// Phases that the CTAs of a cluster go through together.
const ROUNDS: u32 = 3;

/// Each CTA has a barrier for each CTA of the cluster, which arrives there once a phase. No input. Output: of
/// each lane the number of phases, in the upper half, and in the lower one how many of them were over, at the
/// barrier of this CTA, before it had arrived itself, which must be none.
#[inline(always)]
pub(in crate::instructions) unsafe fn mbarrier_arrive_cluster(item: Item) {
    let size = cluster_nctarank();
    let at = |rank: u32| item.shared.offset(8 * rank);
    let own = at(cluster_ctarank());
    // SAFETY: barriers are made and fenced before the cluster's; each CTA arrives at its barrier in each once
    // a phase, and stays until all have seen all.
    unsafe {
        if item.lane < size {
            init(at(item.lane), 1);
            fence_mbarrier_init();
        }
        // Relaxed: the fence alone makes the barriers visible.
        bar_warp_sync();
        barrier_cluster_arrive_relaxed();
        barrier_cluster_wait();
        let (mut round, mut early) = (0, 0);
        while round < ROUNDS {
            early += u32::from(try_wait(own, round % 2));
            bar_sync();
            if item.lane < size {
                arrive_cluster(mapa(own, item.lane));
            }
            let mut rank = 0;
            while rank < size {
                wait(at(rank), round % 2);
                rank += 1;
            }
            bar_sync();
            round += 1;
        }
        item.set(item.lane, round << 16 | early);
        sync_cluster();
    }
}

//! The life of a CTA: its barriers, its roles, its end.

use core::hint::assert_unchecked;

use super::{
    barriers::Barriers,
    cluster::Cluster,
    ring::Ring,
    tile::{PRODUCER_REGISTERS, Tile, WARPGROUP},
};
use crate::{
    device::{
        SharedAddr, bar_sync, bar_warp_sync, barrier_cluster_arrive, barrier_cluster_arrive_relaxed,
        barrier_cluster_wait, dynamic_shared, elect, griddepcontrol_launch_dependents, griddepcontrol_wait,
        prefetch_tensor_map, setmaxnreg_dec, setmaxnreg_inc, shfl_first, thread_idx_x,
    },
    maps::Maps,
    tile::WARP,
};

/// Whether a kernel is launched in clusters.
pub(super) enum Clusters {
    No,
    /// Of 1 to 8 CTAs.
    AnySize,
    /// Of 2 to 8 CTAs.
    Yes,
}

/// What the warpgroups of a CTA do.
pub(super) trait Roles {
    /// Whether the kernel is launched in clusters: it has code for no other launch.
    const CLUSTERS: Clusters;

    /// One thread: starts all copies.
    ///
    /// # Safety
    ///
    /// Barriers and operands are as the kernel says.
    unsafe fn produce(&self, shared: SharedAddr, cluster: Cluster);

    /// All 128 threads of consumer warpgroup `warpgroup`: multiply.
    ///
    /// # Safety
    ///
    /// As [`produce`](Self::produce).
    unsafe fn consume(&self, shared: SharedAddr, cluster: Cluster, warpgroup: u32);
}

/// Runs a CTA.
///
/// Nothing that a launch before this one may have written is touched before `griddepcontrol.wait`: not x, not
/// the workspace, and not y either, which that launch may still read or write.
///
/// # Safety
///
/// All threads of the CTA call it once, launched with `T::THREADS` threads and `T::SHARED_BYTES`, in clusters
/// as [`Roles::CLUSTERS`] says; `roles` keeps the kernel's contract.
#[inline(always)]
pub(super) unsafe fn run<T: Tile, R: Roles>(maps: Maps, roles: &R) {
    let shared = dynamic_shared();
    let thread = thread_idx_x();
    let cluster = Cluster::new();
    // SAFETY: the kernel is launched so, and all lanes are here.
    let warpgroup = unsafe {
        match R::CLUSTERS {
            Clusters::No => assert_unchecked(cluster.size() == 1 && cluster.rank() == 0),
            Clusters::AnySize => {}
            Clusters::Yes => assert_unchecked(cluster.size() > 1),
        }
        shfl_first(thread / WARPGROUP)
    };
    // SAFETY: barriers are made before the cluster's barrier and used behind it; each warpgroup takes one
    // branch with all of its threads; nobody leaves while others of the cluster may still reach its shared
    // memory.
    unsafe {
        if thread == 0 {
            Barriers::<T>::new(shared).init(Ring::<T>::new(cluster));
        }
        if thread == WARPGROUP * T::CONSUMERS {
            prefetch_tensor_map(maps.x());
            prefetch_tensor_map(maps.w());
            if !T::SPLIT_K {
                prefetch_tensor_map(maps.y());
            }
        }
        // Relaxed: all that has to be published is the barriers, and their fence does that with any
        // arrival (PTX ISA, "membar / fence", `.mbarrier_init`, and its example). Nobody has written
        // anything else.
        sync(cluster, barrier_cluster_arrive_relaxed);
        griddepcontrol_wait();
        if warpgroup == T::CONSUMERS {
            if T::CONSUMERS > 1 {
                setmaxnreg_dec::<PRODUCER_REGISTERS>();
            }
            if shfl_first(thread % WARPGROUP / WARP) == 0 && elect() {
                roles.produce(shared, cluster);
                // All loads are started: what comes next may prepare itself.
                griddepcontrol_launch_dependents();
            }
        } else {
            // A consumer alone has what it needs from the start.
            match T::CONSUMER_REGISTERS {
                104 => setmaxnreg_inc::<104>(),
                224 => setmaxnreg_inc::<224>(),
                _ => const { assert!(matches!(T::CONSUMER_REGISTERS, 104 | 224) || T::CONSUMERS == 1) },
            }
            roles.consume(shared, cluster, warpgroup);
        }
        if cluster.size() > 1 {
            // Not relaxed: arrivals at other CTAs' barriers must have come before those CTAs are gone.
            sync(cluster, barrier_cluster_arrive);
        }
    }
}

/// A barrier of the whole cluster, to which threads come by `arrive`.
///
/// # Safety
///
/// All threads of its CTAs call it.
#[inline(always)]
#[track_caller]
unsafe fn sync(cluster: Cluster, arrive: unsafe fn()) {
    // SAFETY: the caller's contract. Lanes come together first, as `aligned` demands.
    unsafe {
        bar_warp_sync();
        if cluster.size() > 1 {
            arrive();
            barrier_cluster_wait();
        } else {
            bar_sync();
        }
    }
}

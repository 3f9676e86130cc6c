//! Which CTAs a slot of the ring belongs to.

use core::marker::PhantomData;

use super::{
    cluster::Cluster,
    tile::{ROW_BYTES, Tile, WARPGROUP},
};
use crate::{
    device::{
        SharedAddr, load_box, load_box_multicast, mapa, mbarrier_arrive, mbarrier_arrive_cluster,
        mbarrier_arrive_release_cluster, thread_idx_x,
    },
    maps::TensorMapRef,
};

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// The CTAs that copy to each other's slots: those of the cluster, or, where these share a tile's K, each CTA
/// alone.
///
/// The CTAs that the producer waits for, those that it copies to, and those to which a consumer releases a
/// slot must be the same. So all three are decided here, by the tile. A CTA alone releases its slots by an
/// arrival that cannot leave it: an arrival by `mapa` needs the hardware's rank, and a rank 0 that only says
/// "the one CTA" would name the cluster's first.
#[derive(Clone, Copy)]
pub(super) struct Ring<T> {
    cluster: Cluster,
    tile: PhantomData<T>,
}

impl<T: Tile> Ring<T> {
    #[inline(always)]
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, tile: PhantomData }
    }

    /// How many CTAs copy to a slot, and so have to release it.
    #[inline(always)]
    pub(super) fn ctas(self) -> u32 {
        if T::SPLIT_K { 1 } else { self.cluster.size() }
    }

    /// Loads this CTA's part of a slot's rows of x, to the slots of all these CTAs.
    ///
    /// # Safety
    ///
    /// `slot` is empty in all of them, and expects all rows; the CTAs load the same step of the same row
    /// tile. `SHARED` says whether they are more than one.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn load_x<const SHARED: bool>(
        self,
        slot: SharedAddr,
        map: TensorMapRef,
        column: u32,
        first_row: u32,
        full: SharedAddr,
    ) {
        // A cluster has 1, 2, 4 or 8 CTAs. A division would be made anew in each step.
        let rows = T::BLOCK_M >> self.ctas().trailing_zeros();
        let part = if SHARED { self.cluster.rank() * rows } else { 0 };
        let (to, row) = (slot.offset(part * ROW_BYTES), first_row + part);
        // SAFETY: the caller's contract; the parts are disjoint, and all rows together.
        unsafe {
            if SHARED {
                load_box_multicast(to, map, column, row, full, self.cluster.all());
            } else {
                load_box(to, map, column, row, full);
            }
        }
    }

    /// Says to all CTAs that copy there that this warpgroup is done with a slot, whose barrier is `empty`.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup call it, once a phase, when all products of the slot are over.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn release(self, empty: SharedAddr) {
        let peer = thread_idx_x() % WARPGROUP;
        if peer < self.ctas() {
            // SAFETY: one arrival of this warpgroup at each barrier a phase; another CTA is there until the
            // cluster's last barrier.
            unsafe {
                if T::SPLIT_K {
                    mbarrier_arrive(empty);
                } else {
                    mbarrier_arrive_cluster(mapa(empty, peer));
                }
            }
        }
    }

    /// The same of a slot that threads have read, and not the tensor cores alone.
    ///
    /// # Safety
    ///
    /// As [`release`](Self::release), behind a barrier of the warpgroup after its threads have read.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn release_read(self, empty: SharedAddr) {
        let peer = thread_idx_x() % WARPGROUP;
        if peer < self.ctas() {
            // SAFETY: as in `release`.
            unsafe { mbarrier_arrive_release_cluster(mapa(empty, peer)) };
        }
    }
}

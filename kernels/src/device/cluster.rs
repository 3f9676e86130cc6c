//! Clusters: CTAs that run at the same time and reach each other's shared memory. PTX ISA,
//! "barrier.cluster", "mapa", "Special Registers".

use core::arch::asm;

use super::{SharedAddr, instruction::instructions};

/// An address in the shared memory of some CTA of the cluster.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct ClusterAddr(u32);

impl ClusterAddr {
    /// As the instructions want it.
    #[inline(always)]
    #[must_use]
    pub const fn address(self) -> u32 {
        self.0
    }
}

macro_rules! special_registers {
    ($($(#[$attr:meta])* $name:ident, $register:literal;)*) => {$(
        $(#[$attr])*
        #[inline(always)]
        #[must_use]
        pub fn $name() -> u32 {
            let value: u32;
            // SAFETY: reading a special register has no precondition.
            unsafe {
                asm!(concat!("mov.u32 {0}, ", $register, ";"), out(reg32) value,
                    options(pure, nomem, nostack));
            }
            value
        }
    )*};
}

special_registers! {
    /// `%cluster_ctarank`: number of this CTA in its cluster.
    cluster_ctarank, "%cluster_ctarank";
    /// `%cluster_nctarank`: CTAs in a cluster.
    cluster_nctarank, "%cluster_nctarank";
    /// `%clusterid.x`: number of this cluster in the grid.
    clusterid_x, "%clusterid.x";
    /// `%nclusterid.x`: clusters in the grid.
    nclusterid_x, "%nclusterid.x";
}

instructions! {
    /// `barrier.cluster.arrive.release.aligned`: says that this thread has come; what it did before is
    /// ordered before what the others do after their wait.
    ///
    /// # Safety
    ///
    /// All threads of all CTAs of the cluster execute it, each before its wait.
    pub unsafe fn barrier_cluster_arrive() {
        asm!("barrier.cluster.arrive.release.aligned;", options(nostack))
    }

    /// `barrier.cluster.arrive.relaxed.aligned`: says that this thread has come, and nothing of what it
    /// did, but for barriers that it has made and fenced. The release compiles to a fence for the whole
    /// GPU.
    ///
    /// # Safety
    ///
    /// As [`barrier_cluster_arrive`].
    pub unsafe fn barrier_cluster_arrive_relaxed() {
        asm!("barrier.cluster.arrive.relaxed.aligned;", options(nostack))
    }

    /// `barrier.cluster.wait.acquire.aligned`: waits until all threads of the cluster have come.
    ///
    /// # Safety
    ///
    /// After [`barrier_cluster_arrive`].
    pub unsafe fn barrier_cluster_wait() {
        asm!("barrier.cluster.wait.acquire.aligned;", options(nostack))
    }

    /// `mapa.shared::cluster.u32`: the place in CTA `rank` of the cluster that `address` is in this one.
    ///
    /// # Safety
    ///
    /// The cluster has that CTA.
    pub unsafe fn mapa(address: SharedAddr, rank: u32) -> ClusterAddr {
        let mapped: u32;
        asm!("mapa.shared::cluster.u32 {0}, {1}, {2};",
            out(reg32) mapped, in(reg32) address.address(), in(reg32) rank, options(pure, nomem, nostack));
        ClusterAddr(mapped)
    }
}

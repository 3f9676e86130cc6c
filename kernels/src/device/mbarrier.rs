//! Barriers in shared memory that count arrivals and bytes. PTX ISA, "mbarrier".
//!
//! A barrier goes from phase to phase: a phase ends when all expected arrivals have come and all expected
//! bytes have landed. Waiting takes the parity of the phase that should be over; a barrier that has just been
//! made is in phase 0, so that a wait for parity 1 passes.

use core::arch::asm;

use super::{ClusterAddr, SharedAddr, instruction::instructions};

instructions! {
    /// `mbarrier.init`: a barrier of `arrivals` a phase in the 8 bytes at `at`.
    ///
    /// # Safety
    ///
    /// A multiple of 8, inside the CTA's shared memory; nobody uses it until it is ordered after this, for
    /// the async proxy and for other CTAs by [`fence_mbarrier_init`].
    pub unsafe fn mbarrier_init(at: SharedAddr, arrivals: u32) {
        asm!("mbarrier.init.shared::cta.b64 [{0}], {1};",
            in(reg32) at.address(), in(reg32) arrivals, options(nostack))
    }

    /// `fence.mbarrier_init.release.cluster`: makes barriers that this thread has made visible to the cluster
    /// and to the async proxy, once the cluster's barrier orders them.
    ///
    /// # Safety
    ///
    /// None of its own.
    pub unsafe fn fence_mbarrier_init() {
        asm!("fence.mbarrier_init.release.cluster;", options(nostack))
    }

    /// `mbarrier.arrive.release.cta`: one arrival.
    ///
    /// # Safety
    ///
    /// A barrier of this CTA that still expects an arrival in this phase.
    pub unsafe fn mbarrier_arrive(at: SharedAddr) {
        asm!("mbarrier.arrive.release.cta.shared::cta.b64 _, [{0}];",
            in(reg32) at.address(), options(nostack))
    }

    /// `mbarrier.arrive.shared::cluster`: one arrival at a barrier of any CTA of the cluster.
    ///
    /// Its scope is the default, the CTA. In another CTA it says that asynchronous operations are over which
    /// this thread has waited for, and nothing of what threads stored: `release.cluster` would, and compiles
    /// to a fence for the whole GPU, in every step.
    ///
    /// # Safety
    ///
    /// A barrier that still expects an arrival in this phase, in a CTA that has started and not ended.
    pub unsafe fn mbarrier_arrive_cluster(at: ClusterAddr) {
        asm!("mbarrier.arrive.shared::cluster.b64 _, [{0}];", in(reg32) at.address(), options(nostack))
    }

    /// `mbarrier.arrive.release.cluster.shared::cluster`: the same, and what this thread did before, and what
    /// it has seen of others, is ordered before what happens behind the phase in any CTA of the cluster. It
    /// compiles to a fence for the whole GPU.
    ///
    /// # Safety
    ///
    /// As [`mbarrier_arrive_cluster`].
    pub unsafe fn mbarrier_arrive_release_cluster(at: ClusterAddr) {
        asm!("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [{0}];", in(reg32) at.address(),
            options(nostack))
    }

    /// `mbarrier.arrive.expect_tx.release.cta`: one arrival, and `bytes` that still have to land in this
    /// phase.
    ///
    /// # Safety
    ///
    /// As [`mbarrier_arrive`]; at most 2²⁰ − 1 bytes are due in a phase.
    pub unsafe fn mbarrier_arrive_expect_tx(at: SharedAddr, bytes: u32) {
        asm!("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [{0}], {1};",
            in(reg32) at.address(), in(reg32) bytes, options(nostack))
    }

    /// `mbarrier.try_wait.parity.acquire.cta`: whether the phase of this parity is over; may wait for a
    /// while.
    ///
    /// # Safety
    ///
    /// A barrier of this CTA, in that phase or the one after it.
    pub unsafe fn mbarrier_try_wait(at: SharedAddr, parity: u32) -> bool {
        let over: u32;
        asm!(
            "{{ .reg .pred p; \
             mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [{1}], {2}; selp.u32 {0}, 1, 0, p; }}",
            out(reg32) over, in(reg32) at.address(), in(reg32) parity, options(nostack),
        );
        over != 0
    }

    /// `mbarrier.try_wait.parity.acquire.cluster`: the same, and what threads of other CTAs released by
    /// [`mbarrier_arrive_release_cluster`] is ordered before what comes next.
    ///
    /// # Safety
    ///
    /// As [`mbarrier_try_wait`].
    pub unsafe fn mbarrier_try_wait_cluster(at: SharedAddr, parity: u32) -> bool {
        let over: u32;
        asm!(
            "{{ .reg .pred p; \
             mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [{1}], {2}; selp.u32 {0}, 1, 0, p; }}",
            out(reg32) over, in(reg32) at.address(), in(reg32) parity, options(nostack),
        );
        over != 0
    }
}

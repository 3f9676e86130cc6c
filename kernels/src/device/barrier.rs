//! Barriers. PTX ISA, "bar, barrier", "bar.warp.sync".

use core::arch::asm;

use super::instruction::instructions;

instructions! {
    /// `barrier.sync.aligned 0`: waits for all threads of the CTA, and orders what they did before it before
    /// what they do after it.
    ///
    /// # Safety
    ///
    /// All threads of the CTA execute this same barrier.
    pub unsafe fn bar_sync() {
        asm!("bar.sync 0;", options(nostack))
    }

    /// `bar.warp.sync 0xffffffff`: the same among the 32 lanes of a warp.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it.
    pub unsafe fn bar_warp_sync() {
        asm!("bar.warp.sync 0xffffffff;", options(nostack))
    }

    /// `bar.sync ID, THREADS`: the same among THREADS threads, whole warps, that agree on barrier ID, 1 to
    /// 15.
    ///
    /// # Safety
    ///
    /// So many threads of the CTA execute it with this ID, and nobody else uses that barrier at the time.
    pub unsafe fn bar_sync_some(id: u32, threads: u32) {
        asm!("bar.sync {0}, {1};", in(reg32) id, in(reg32) threads, options(nostack))
    }
}

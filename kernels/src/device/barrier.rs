//! Barriers. PTX ISA 9.7.13.

#[cfg(target_arch = "nvptx64")]
use core::arch::asm;

use super::instruction;

instruction! {
    /// `barrier.sync.aligned 0`: waits for all threads of the CTA, and orders what they did before it before
    /// what they do after it.
    ///
    /// # Safety
    ///
    /// All threads of the CTA execute this same barrier.
    pub unsafe fn bar_sync() {
        ptx: asm!("bar.sync 0;", options(nostack)),
        host: simt::ops::bar_sync(),
    }
}

instruction! {
    /// `bar.warp.sync 0xffffffff`: the same among the 32 lanes of a warp.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it.
    pub unsafe fn bar_warp_sync() {
        ptx: asm!("bar.warp.sync 0xffffffff;", options(nostack)),
        host: simt::ops::bar_warp_sync(),
    }
}

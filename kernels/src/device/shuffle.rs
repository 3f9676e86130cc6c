//! What the lanes of a warp share without memory. PTX ISA, "shfl.sync", "elect.sync".

use core::arch::asm;

use super::instruction::instructions;

instructions! {
    /// `shfl.sync.bfly.b32` among all 32 lanes: lane l gets the `value` of lane l XOR `mask`, `mask` below
    /// 32.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it. It orders nothing.
    pub unsafe fn shfl_bfly(value: u32, mask: u32) -> u32 {
        let other: u32;
        asm!("shfl.sync.bfly.b32 {0}, {1}, {2}, 31, 0xffffffff;",
            out(reg32) other, in(reg32) value, in(reg32) mask, options(nostack));
        other
    }

    /// `shfl.sync.idx.b32` from lane 0: every lane gets the `value` of the first. ptxas sees that it is
    /// the same in all lanes, and keeps in uniform registers what is computed from it.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it. It orders nothing.
    pub unsafe fn shfl_first(value: u32) -> u32 {
        let first: u32;
        asm!("shfl.sync.idx.b32 {0}, {1}, 0, 31, 0xffffffff;",
            out(reg32) first, in(reg32) value, options(nostack));
        first
    }

    /// `elect.sync`: whether this lane is the one of its warp that is elected, each time the same. ptxas
    /// knows that one lane alone runs what depends on it.
    ///
    /// # Safety
    ///
    /// All lanes of the warp execute it. It orders nothing.
    pub unsafe fn elect() -> bool {
        let elected: u32;
        asm!("{{ .reg .pred p; elect.sync _|p, 0xffffffff; selp.u32 {0}, 1, 0, p; }}",
            out(reg32) elected, options(nostack));
        elected != 0
    }
}

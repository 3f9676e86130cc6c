//! Registers from lane to lane. PTX ISA, "shfl.sync".

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
}

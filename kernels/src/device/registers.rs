//! Moving registers between warpgroups. PTX ISA, "setmaxnreg".

use core::arch::asm;

use super::instruction::instructions;

instructions! {
    /// `setmaxnreg.dec`: this warpgroup keeps COUNT registers a thread and gives the rest to the CTA's pool.
    ///
    /// # Safety
    ///
    /// All warps of the warpgroup execute it, and none uses more registers afterwards.
    pub unsafe fn setmaxnreg_dec<const COUNT: u32>() {
        asm!("setmaxnreg.dec.sync.aligned.u32 {0};", const COUNT, options(nostack))
    }

    /// `setmaxnreg.inc`: waits until the pool has what this warpgroup lacks to COUNT registers a thread, and
    /// takes it.
    ///
    /// # Safety
    ///
    /// All warps of the warpgroup execute it; other warpgroups give as much.
    pub unsafe fn setmaxnreg_inc<const COUNT: u32>() {
        asm!("setmaxnreg.inc.sync.aligned.u32 {0};", const COUNT, options(nostack))
    }
}

//! Where a thread is in the launch. PTX ISA, "Special Registers".

use core::arch::{asm, nvptx};

macro_rules! special_registers {
    ($($(#[$attr:meta])* $name:ident, $intrinsic:ident;)*) => {$(
        $(#[$attr])*
        #[inline(always)]
        #[must_use]
        pub fn $name() -> u32 {
            // SAFETY: reading a special register has no precondition.
            unsafe { nvptx::$intrinsic() as u32 }
        }
    )*};
}

special_registers! {
    /// `%tid.x`: number of this thread in its CTA.
    thread_idx_x, _thread_idx_x;
    /// `%ctaid.x`: number of this CTA in the grid. Promises nothing about the order of dispatch.
    block_idx_x, _block_idx_x;
    /// `%ntid.x`: threads in a CTA.
    block_dim_x, _block_dim_x;
    /// `%nctaid.x`: CTAs in the grid.
    grid_dim_x, _grid_dim_x;
}

/// `value`, of which the compiler knows nothing. What is computed from it inside a loop stays there: an
/// address hoisted out of the loop over work items would take a register from the sums, all the time. No
/// instruction.
#[inline(always)]
#[must_use]
pub fn opaque(value: u32) -> u32 {
    let mut value = value;
    // SAFETY: no instruction. Not `pure`: else it could be hoisted itself.
    unsafe { asm!("// {0}", inout(reg32) value, options(nomem, nostack)) };
    value
}

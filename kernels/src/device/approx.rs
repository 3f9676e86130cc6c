//! Elementary functions, as the special function units approximate them, and the fused multiply-add. PTX ISA,
//! "Floating Point Instructions".
//!
//! What an approximation gives is the GPU's own, within the error that the manual names: the strict machine
//! takes any such value. All of them flush subnormal inputs and results to zero of the same sign.

use core::arch::asm;

macro_rules! unary {
    ($($(#[$attr:meta])* $name:ident, $instruction:literal;)*) => {$(
        $(#[$attr])*
        #[inline(always)]
        #[must_use]
        pub fn $name(x: f32) -> f32 {
            let y: f32;
            // SAFETY: an arithmetic instruction on registers.
            unsafe {
                asm!(concat!($instruction, " {0}, {1};"), out(reg32) y, in(reg32) x,
                    options(pure, nomem, nostack));
            }
            y
        }
    )*};
}

unary! {
    /// `ex2.approx.ftz.f32`: 2 to the power of x, at most 2 ulp from the correctly rounded result. 1 for
    /// zeros, 0 for negative infinity. PTX ISA, "ex2".
    ex2_approx, "ex2.approx.ftz.f32";
    /// `rcp.approx.ftz.f32`: 1/x, at most 1 ulp off. Infinite for zeros, zero for infinities. PTX ISA, "rcp".
    rcp_approx, "rcp.approx.ftz.f32";
    /// `rsqrt.approx.ftz.f32`: 1/√x, with a relative error of at most 2^-22.9. Infinite for zeros, 0 for
    /// infinity, NaN below zero. PTX ISA, "rsqrt".
    rsqrt_approx, "rsqrt.approx.ftz.f32";
}

/// `fma.rn.f32`: a · b + c, rounded once, to nearest. PTX ISA, "fma". (Where the source has a product and a
/// sum, the compiler rounds twice, in two instructions.)
#[inline(always)]
#[must_use]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    let d: f32;
    // SAFETY: an arithmetic instruction on registers.
    unsafe {
        asm!("fma.rn.f32 {0}, {1}, {2}, {3};", out(reg32) d, in(reg32) a, in(reg32) b, in(reg32) c,
            options(pure, nomem, nostack));
    }
    d
}

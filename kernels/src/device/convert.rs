//! Conversions. PTX ISA, "cvt".

use core::arch::asm;

/// `cvt.rn.f16x2.f32`: two f32 rounded to the nearest f16, ties to even; `low` goes to the lower half, which
/// is the lower address. Beyond 65504 they become infinite.
#[inline(always)]
#[must_use]
pub fn pack_f16x2(low: f32, high: f32) -> u32 {
    let packed: u32;
    // SAFETY: an arithmetic instruction on registers.
    unsafe {
        asm!("cvt.rn.f16x2.f32 {0}, {1}, {2};", out(reg32) packed, in(reg32) high, in(reg32) low,
            options(pure, nomem, nostack));
    }
    packed
}

/// `cvt.f32.f16`: exact.
#[inline(always)]
#[must_use]
pub fn f16_to_f32(bits: u16) -> f32 {
    let value: f32;
    // SAFETY: an arithmetic instruction on registers.
    unsafe {
        asm!("cvt.f32.f16 {0}, {1};", out(reg32) value, in(reg16) bits, options(pure, nomem, nostack));
    }
    value
}

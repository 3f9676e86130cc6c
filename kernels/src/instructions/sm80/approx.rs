//! Elementary functions, and the fused multiply-add.

use crate::{device, instructions::item::Item};

macro_rules! unary {
    ($($name:ident),*) => {$(
        /// Input: an f32 of each lane. Output: the function's value.
        #[inline(always)]
        pub(in crate::instructions) unsafe fn $name(item: Item) {
            // SAFETY: a word in and one out of each lane.
            unsafe { item.set(item.lane, device::$name(f32::from_bits(item.get(item.lane))).to_bits()) }
        }
    )*};
}

unary!(ex2_approx, rcp_approx, rsqrt_approx);

/// Input: a, b and c of each lane, f32. Output: a · b + c.
#[inline(always)]
pub(in crate::instructions) unsafe fn fma(item: Item) {
    // SAFETY: three words in and one out of each lane.
    unsafe {
        let [a, b, c] = [0, 1, 2].map(|i| f32::from_bits(item.get(3 * item.lane + i)));
        item.set(item.lane, device::fma(a, b, c).to_bits());
    }
}

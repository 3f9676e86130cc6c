//! Shared memory. PTX ISA, "ld", "st".

use core::arch::{asm, global_asm};

use super::instruction::instructions;

global_asm!(".extern .shared .align 1024 .b8 dynamic_shared_memory[];");

/// An address in the CTA's shared memory, in bytes: a number that only instructions of this module follow.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct SharedAddr(u32);

/// Where the dynamic shared memory of this CTA starts: a multiple of 1024. As [`opaque`](super::opaque) as it
/// can be: moving a constant to a register again is cheaper than keeping it there.
#[inline(always)]
#[must_use]
pub fn dynamic_shared() -> SharedAddr {
    let address: u32;
    // SAFETY: moves a constant to a register.
    unsafe {
        asm!("mov.u32 {0}, dynamic_shared_memory;", out(reg32) address, options(nomem, nostack));
    }
    SharedAddr(address)
}

impl SharedAddr {
    /// The origin, for addresses that are offsets.
    pub const ZERO: Self = Self(0);

    /// As the instructions want it.
    #[inline(always)]
    #[must_use]
    pub const fn address(self) -> u32 {
        self.0
    }

    /// The address `bytes` further.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// The address with some bits flipped: how a swizzle moves.
    #[inline(always)]
    #[must_use]
    pub const fn xor(self, bits: u32) -> Self {
        Self(self.0 ^ bits)
    }

    instructions! {
        /// `ld.shared.u32`, weak.
        ///
        /// # Safety
        ///
        /// Aligned, inside the CTA's shared memory; no write races with it.
        pub unsafe fn load_u32(self) -> u32 {
            let v: u32;
            asm!("ld.shared.u32 {0}, [{1}];", out(reg32) v, in(reg32) self.0, options(nostack, readonly));
            v
        }

        /// `st.shared.u32`, weak.
        ///
        /// # Safety
        ///
        /// Aligned, inside the CTA's shared memory; no other access races with it.
        pub unsafe fn store_u32(self, value: u32) {
            asm!("st.shared.u32 [{0}], {1};", in(reg32) self.0, in(reg32) value, options(nostack))
        }

        /// `st.shared.v2.u32`, weak: 8 bytes.
        ///
        /// # Safety
        ///
        /// A multiple of 8, inside the CTA's shared memory; no other access races with it.
        pub unsafe fn store_v2(self, value: [u32; 2]) {
            asm!(
                "st.shared.v2.u32 [{0}], {{{1}, {2}}};",
                in(reg32) self.0, in(reg32) value[0], in(reg32) value[1],
                options(nostack),
            )
        }

        /// `ld.shared.v4.u32`, weak: 16 bytes.
        ///
        /// # Safety
        ///
        /// A multiple of 16, inside the CTA's shared memory; no write races with it.
        pub unsafe fn load_v4(self) -> [u32; 4] {
            let (a, b, c, d): (u32, u32, u32, u32);
            asm!(
                "ld.shared.v4.u32 {{{0}, {1}, {2}, {3}}}, [{4}];",
                out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg32) self.0,
                options(nostack, readonly),
            );
            [a, b, c, d]
        }

        /// `st.shared.v4.u32`, weak: 16 bytes.
        ///
        /// # Safety
        ///
        /// A multiple of 16, inside the CTA's shared memory; no other access races with it.
        pub unsafe fn store_v4(self, value: [u32; 4]) {
            asm!(
                "st.shared.v4.u32 [{0}], {{{1}, {2}, {3}, {4}}};",
                in(reg32) self.0,
                in(reg32) value[0], in(reg32) value[1], in(reg32) value[2], in(reg32) value[3],
                options(nostack),
            )
        }
    }
}

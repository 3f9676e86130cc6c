//! Global memory. PTX ISA, "ld", "st", "atom", "red"; for the order of accesses, "Memory Consistency Model".

use core::arch::asm;

use super::instruction::instructions;
use crate::Global;

impl Global<u16> {
    instructions! {
        /// `ld.global.u16`, weak.
        ///
        /// # Safety
        ///
        /// Aligned, readable; no write races with it.
        pub unsafe fn load(self) -> u16 {
            let v: u16;
            asm!("ld.global.u16 {0}, [{1}];",
                out(reg16) v, in(reg64) self.address(), options(nostack, readonly));
            v
        }

        /// `st.global.u16`, weak.
        ///
        /// # Safety
        ///
        /// Aligned, writable; no other access races with it.
        pub unsafe fn store(self, value: u16) {
            asm!("st.global.u16 [{0}], {1};", in(reg64) self.address(), in(reg16) value, options(nostack))
        }
    }
}

impl Global<u32> {
    instructions! {
        /// `ld.global.u32`, weak.
        ///
        /// # Safety
        ///
        /// Aligned, readable; no write races with it.
        pub unsafe fn load(self) -> u32 {
            let v: u32;
            asm!("ld.global.u32 {0}, [{1}];",
                out(reg32) v, in(reg64) self.address(), options(nostack, readonly));
            v
        }

        /// `ld.acquire.gpu.global.u32`: what was done before the `release` whose value it reads, or a later
        /// one of its chain of read-modify-writes, is ordered before what this thread does next. PTX ISA,
        /// "Release and Acquire Patterns".
        ///
        /// # Safety
        ///
        /// Aligned, readable; other accesses that race with it are strong, too.
        pub unsafe fn load_acquire(self) -> u32 {
            let v: u32;
            asm!("ld.acquire.gpu.global.u32 {0}, [{1}];",
                out(reg32) v, in(reg64) self.address(), options(nostack));
            v
        }

        /// `st.global.u32`, weak.
        ///
        /// # Safety
        ///
        /// A multiple of 4, writable; no other access races with it.
        pub unsafe fn store(self, value: u32) {
            asm!("st.global.u32 [{0}], {1};", in(reg64) self.address(), in(reg32) value, options(nostack))
        }

        /// `st.relaxed.gpu.global.u32`: strong, orders nothing.
        ///
        /// # Safety
        ///
        /// Aligned, writable; other accesses that race with it are strong, too.
        pub unsafe fn store_relaxed(self, value: u32) {
            asm!("st.relaxed.gpu.global.u32 [{0}], {1};",
                in(reg64) self.address(), in(reg32) value, options(nostack))
        }

        /// `atom.relaxed.gpu.global.inc.u32`: counts up, from `last` back to 0; gives what was there. Orders
        /// nothing.
        ///
        /// # Safety
        ///
        /// Aligned, writable; other accesses that race with it are strong, too.
        pub unsafe fn atom_inc(self, last: u32) -> u32 {
            let v: u32;
            asm!("atom.relaxed.gpu.global.inc.u32 {0}, [{1}], {2};",
            out(reg32) v, in(reg64) self.address(), in(reg32) last, options(nostack));
            v
        }

        /// `red.release.gpu.global.add.u32`: adds, and orders what this thread did before it, and what
        /// barriers ordered before that, before what follows an acquire that reads it. PTX ISA, "Release and
        /// Acquire Patterns".
        ///
        /// # Safety
        ///
        /// Aligned, writable; other accesses that race with it are strong, too.
        pub unsafe fn red_add_release(self, value: u32) {
            asm!("red.release.gpu.global.add.u32 [{0}], {1};",
                in(reg64) self.address(), in(reg32) value, options(nostack))
        }
    }
}

impl Global<[u32; 4]> {
    instructions! {
        /// `ld.global.v4.u32`, weak: 16 bytes.
        ///
        /// # Safety
        ///
        /// A multiple of 16, readable; no write races with it.
        pub unsafe fn load(self) -> [u32; 4] {
            let (a, b, c, d): (u32, u32, u32, u32);
            asm!(
                "ld.global.v4.u32 {{{0}, {1}, {2}, {3}}}, [{4}];",
                out(reg32) a, out(reg32) b, out(reg32) c, out(reg32) d, in(reg64) self.address(),
                options(nostack, readonly),
            );
            [a, b, c, d]
        }

        /// `st.global.v4.u32`, weak: 16 bytes.
        ///
        /// # Safety
        ///
        /// A multiple of 16, writable; no other access races with it.
        pub unsafe fn store(self, value: [u32; 4]) {
            asm!(
                "st.global.v4.u32 [{0}], {{{1}, {2}, {3}, {4}}};",
                in(reg64) self.address(),
                in(reg32) value[0], in(reg32) value[1], in(reg32) value[2], in(reg32) value[3],
                options(nostack),
            )
        }
    }
}

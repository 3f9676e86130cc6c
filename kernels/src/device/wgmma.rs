//! Products of a warpgroup on operands in shared memory. PTX ISA, "Asynchronous Warpgroup
//! Level Matrix Multiply-Accumulate Instructions".
//!
//! `wgmma.mma_async` returns at once and adds to its sums later: until the wait, their registers belong to
//! the tensor cores. So sums are values here, and the types say whose they are: [`Sums`] can be read,
//! [`Pending`] can only be added to, or waited for. Every block names all of its registers as `inout`, the
//! wait, too, so that the compiler can put nothing between.
//!
//! Fence, products and commit are one block: with a block each, LLVM may move registers between them, and
//! ptxas then serialises the products.

use core::arch::asm;

use super::SharedAddr;

/// Sums of 64 rows by 2 R columns in the R registers of each of a warpgroup's 128 threads.
///
/// Register 4 j + i of lane l of warp w (PTX ISA, figure "WGMMA .m64nNk16 register fragment layout for
/// accumulator matrix D") is row 16 (w mod 4) + l / 4 + 8 (i / 2), column 8 j + 2 (l mod 4) + i mod 2.
#[derive(Clone, Copy)]
pub struct Sums<const R: usize>([f32; R]);

/// Sums that products under way add to.
#[derive(Clone, Copy)]
pub struct Pending<const R: usize>([f32; R]);

/// Where a K-major operand lies in shared memory, and in which swizzle. PTX ISA, "Matrix Descriptor Format".
#[derive(Clone, Copy, Debug)]
pub struct Descriptor(u64);

impl Descriptor {
    /// Rows of 128 bytes, 64 columns of f16, in groups of eight rows of 1024 bytes, in the 128-byte swizzle;
    /// the address is a multiple of 1024, or of 32 columns' bytes inside the first row of such a group.
    #[inline(always)]
    #[must_use]
    pub const fn rows_of_128(from: SharedAddr) -> Self {
        Self(Self::at(from, 1024) | 1 << 62)
    }

    /// Rows of 32 bytes, 16 columns of f16, in groups of eight rows of 256 bytes, in the 32-byte swizzle; the
    /// address is a multiple of 256.
    #[inline(always)]
    #[must_use]
    pub const fn rows_of_32(from: SharedAddr) -> Self {
        Self(Self::at(from, 256) | 3 << 62)
    }

    /// Bits 0 to 13 the address, 16 to 29 the leading dimension (unused here: one repetition covers K), 32 to
    /// 45 the bytes between groups of eight rows, all in units of 16 bytes. The shared memory of a CTA
    /// ends below 2¹⁸, so that no address has bits above those of its field.
    #[inline(always)]
    const fn at(from: SharedAddr, group_bytes: u64) -> u64 {
        (from.address() >> 4) as u64 | 1 << 16 | (group_bytes >> 4) << 32
    }

    /// The operand `bytes`, a multiple of 16, further.
    #[inline(always)]
    #[must_use]
    pub const fn offset(self, bytes: u32) -> Self {
        Self(self.0.wrapping_add((bytes >> 4) as u64))
    }
}

/// 64 rows by 64 columns of f16 in the registers of a warpgroup, as the first operand of four products.
///
/// Register i of lane l of warp w (PTX ISA, figure "WGMMA .m64nNk16 register fragment layout for matrix A") of
/// the product over columns 16 j to 16 j + 15 is row 16 (w mod 4) + l / 4 + 8 (i mod 2), columns 16 j + 8 (i /
/// 2) + 2 (l mod 4) and the next.
pub type Fragments = [[u32; 4]; 4];

/// K of one product.
const STEP: u32 = 16;
/// Bytes from one product's columns to the next in a row: the step of b, and of an a that lies in rows.
pub const STEP_BYTES: u32 = STEP * 2;

/// Arrays of registers that there are instructions for.
pub trait Registers: Sized {
    /// A fence, four products over 64 columns of both operands, and a commit.
    ///
    /// # Safety
    ///
    /// As [`Pending::multiply_64`].
    #[doc(hidden)]
    unsafe fn multiply_64(self, a: Descriptor, a_step: u32, b: Descriptor) -> Self;

    /// A fence, four products over 64 columns of both operands, the first of which lies in registers, and a
    /// commit.
    ///
    /// # Safety
    ///
    /// As [`Pending::multiply_64_of`].
    #[doc(hidden)]
    unsafe fn multiply_64_of(self, a: Fragments, b: Descriptor) -> Self;

    /// A fence, one product over 16 columns, and a commit.
    ///
    /// # Safety
    ///
    /// As [`Pending::multiply_16`].
    #[doc(hidden)]
    unsafe fn multiply_16(self, a: Descriptor, b: Descriptor) -> Self;

    /// Waits until at most PENDING groups are under way.
    ///
    /// # Safety
    ///
    /// As [`Pending::settle`].
    #[doc(hidden)]
    unsafe fn wait<const PENDING: u32>(self) -> Self;
}

macro_rules! product {
    ($n:literal, $a:literal, $b:literal, $i0:literal $($i:literal)*) => {
        concat!(
            "wgmma.mma_async.sync.aligned.m64n", $n, "k16.f32.f16.f16 {{{", $i0, "}",
            $(",{", $i, "}",)*
            "}}, {", $a, "}, {", $b, "}, 1, 1, 1, 0, 0;"
        )
    };
}

macro_rules! product_of {
    ($n:literal, $a:literal, $b:literal, $c:literal, $d:literal, $of:literal, $i0:literal $($i:literal)*) => {
        concat!(
            "wgmma.mma_async.sync.aligned.m64n", $n, "k16.f32.f16.f16 {{{", $i0, "}",
            $(",{", $i, "}",)*
            "}}, {{{", $a, "},{", $b, "},{", $c, "},{", $d, "}}}, {", $of, "}, 1, 1, 1, 0;"
        )
    };
}

macro_rules! registers {
    // Each line adds to the registers of the line before.
    ([$($before:literal)*]) => {};
    ([$($before:literal)*] $r:literal of n $n:literal: $($new:literal)*; $($rest:tt)*) => {
        registers!(@impl $r, $n, $($before)* $($new)*);
        registers!([$($before)* $($new)*] $($rest)*);
    };
    (@impl $r:literal, $n:literal, $($i:literal)*) => {
        impl Registers for [f32; $r] {
            #[inline(always)]
            #[track_caller]
            unsafe fn multiply_64(mut self, a: Descriptor, a_step: u32, b: Descriptor) -> Self {
                let step = |i: u32| (a.offset(i * a_step).0, b.offset(i * STEP_BYTES).0);
                let [(a0, b0), (a1, b1), (a2, b2), (a3, b3)] = [step(0), step(1), step(2), step(3)];
                // SAFETY: the caller keeps the contract, which is the manual's.
                unsafe {
                    asm!(
                        "wgmma.fence.sync.aligned;",
                        product!($n, "a0", "b0", $($i)*),
                        product!($n, "a1", "b1", $($i)*),
                        product!($n, "a2", "b2", $($i)*),
                        product!($n, "a3", "b3", $($i)*),
                        "wgmma.commit_group.sync.aligned;",
                        $(inout(reg32) self[$i],)*
                        a0 = in(reg64) a0, b0 = in(reg64) b0, a1 = in(reg64) a1, b1 = in(reg64) b1,
                        a2 = in(reg64) a2, b2 = in(reg64) b2, a3 = in(reg64) a3, b3 = in(reg64) b3,
                        options(nostack),
                    );
                }
                self
            }

            #[inline(always)]
            #[track_caller]
            unsafe fn multiply_64_of(mut self, a: Fragments, b: Descriptor) -> Self {
                let [a0, a1, a2, a3] = a;
                // SAFETY: the caller keeps the contract, which is the manual's.
                unsafe {
                    asm!(
                        "wgmma.fence.sync.aligned;",
                        product_of!($n, "a0", "a1", "a2", "a3", "b0", $($i)*),
                        product_of!($n, "a4", "a5", "a6", "a7", "b1", $($i)*),
                        product_of!($n, "a8", "a9", "a10", "a11", "b2", $($i)*),
                        product_of!($n, "a12", "a13", "a14", "a15", "b3", $($i)*),
                        "wgmma.commit_group.sync.aligned;",
                        $(inout(reg32) self[$i],)*
                        a0 = in(reg32) a0[0], a1 = in(reg32) a0[1], a2 = in(reg32) a0[2], a3 = in(reg32) a0[3],
                        a4 = in(reg32) a1[0], a5 = in(reg32) a1[1], a6 = in(reg32) a1[2], a7 = in(reg32) a1[3],
                        a8 = in(reg32) a2[0], a9 = in(reg32) a2[1], a10 = in(reg32) a2[2], a11 = in(reg32) a2[3],
                        a12 = in(reg32) a3[0], a13 = in(reg32) a3[1], a14 = in(reg32) a3[2],
                        a15 = in(reg32) a3[3],
                        b0 = in(reg64) b.0, b1 = in(reg64) b.offset(STEP_BYTES).0,
                        b2 = in(reg64) b.offset(2 * STEP_BYTES).0, b3 = in(reg64) b.offset(3 * STEP_BYTES).0,
                        options(nostack),
                    );
                }
                self
            }

            #[inline(always)]
            #[track_caller]
            unsafe fn multiply_16(mut self, a: Descriptor, b: Descriptor) -> Self {
                // SAFETY: the caller keeps the contract, which is the manual's.
                unsafe {
                    asm!(
                        "wgmma.fence.sync.aligned;",
                        product!($n, "a", "b", $($i)*),
                        "wgmma.commit_group.sync.aligned;",
                        $(inout(reg32) self[$i],)*
                        a = in(reg64) a.0, b = in(reg64) b.0,
                        options(nostack),
                    );
                }
                self
            }

            #[inline(always)]
            #[track_caller]
            unsafe fn wait<const PENDING: u32>(mut self) -> Self {
                // SAFETY: waiting has no precondition.
                unsafe {
                    asm!(
                        "wgmma.wait_group.sync.aligned {pending};",
                        concat!("// ", $("{", $i, "} ",)*),
                        $(inout(reg32) self[$i],)*
                        pending = const PENDING,
                        options(nostack),
                    );
                }
                self
            }
        }
    };
}

registers! { []
    8 of n 16: 0 1 2 3 4 5 6 7;
    16 of n 32: 8 9 10 11 12 13 14 15;
    24 of n 48: 16 17 18 19 20 21 22 23;
    32 of n 64: 24 25 26 27 28 29 30 31;
    40 of n 80: 32 33 34 35 36 37 38 39;
    48 of n 96: 40 41 42 43 44 45 46 47;
    64 of n 128: 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63;
    72 of n 144: 64 65 66 67 68 69 70 71;
    80 of n 160: 72 73 74 75 76 77 78 79;
    96 of n 192: 80 81 82 83 84 85 86 87 88 89 90 91 92 93 94 95;
    104 of n 208: 96 97 98 99 100 101 102 103;
    112 of n 224: 104 105 106 107 108 109 110 111;
    128 of n 256: 112 113 114 115 116 117 118 119 120 121 122 123 124 125 126 127;
}

impl<const R: usize> Sums<R> {
    /// All zero.
    #[inline(always)]
    #[must_use]
    pub const fn zero() -> Self {
        // A loop of stores would leave the array in local memory.
        // SAFETY: all bits zero is 0.0.
        Self(unsafe { core::mem::zeroed() })
    }

    /// These.
    #[inline(always)]
    #[must_use]
    pub const fn from_registers(registers: [f32; R]) -> Self {
        Self(registers)
    }

    /// The registers.
    #[inline(always)]
    #[must_use]
    pub const fn registers(&self) -> &[f32; R] {
        &self.0
    }

    /// The sums of both.
    #[inline(always)]
    #[must_use]
    pub fn plus(mut self, other: Self) -> Self {
        let mut i = 0;
        while i < R {
            self.0[i] += other.0[i];
            i += 1;
        }
        self
    }

    /// The first 2 F columns, and the 2 L columns after them; zero where there are none.
    #[inline(always)]
    #[must_use]
    pub fn split<const F: usize, const L: usize>(self) -> (Sums<F>, Sums<L>) {
        // SAFETY: all bits zero is 0.0; see `zero`.
        let (mut first, mut last): ([f32; F], [f32; L]) = unsafe { core::mem::zeroed() };
        let mut i = 0;
        while i < F && i < R {
            first[i] = self.0[i];
            i += 1;
        }
        i = 0;
        while i < L && F + i < R {
            last[i] = self.0[F + i];
            i += 1;
        }
        (Sums(first), Sums(last))
    }
}

impl<const R: usize> Pending<R> {
    /// Sums that nothing adds to, as the start of a chain.
    #[inline(always)]
    #[must_use]
    pub const fn from_sums(sums: Sums<R>) -> Self {
        Self(sums.0)
    }
}

impl<const R: usize> Pending<R>
where
    [f32; R]: Registers,
{
    /// `wgmma.fence; 4 × wgmma.mma_async.m64nNk16.f32.f16.f16; wgmma.commit_group`: starts adding a bᵀ over
    /// 64 columns of a `[64, ·]` and b `[N, ·]`, with N = 2 R; one group. The 16 columns of a product lie
    /// A_STEP bytes behind those of the one before in a: [`STEP_BYTES`] in rows, a panel's bytes in panels.
    ///
    /// # Safety
    ///
    /// All 128 threads of the warpgroup execute it with the same descriptors; both operands were written
    /// through the async proxy, or fenced for it, and nobody writes them until a wait for the group.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub unsafe fn multiply_64<const A_STEP: u32>(self, a: Descriptor, b: Descriptor) -> Self {
        // SAFETY: the caller's contract.
        Self(unsafe { self.0.multiply_64(a, A_STEP, b) })
    }

    /// The same with a in registers: `wgmma.fence; 4 × wgmma.mma_async.m64nNk16.f32.f16.f16;
    /// wgmma.commit_group`, one group.
    ///
    /// # Safety
    ///
    /// As [`multiply_64`](Self::multiply_64), but for a, whose registers nobody changes until a wait for the
    /// group: ptxas sees to that.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub unsafe fn multiply_64_of(self, a: Fragments, b: Descriptor) -> Self {
        // SAFETY: the caller's contract.
        Self(unsafe { self.0.multiply_64_of(a, b) })
    }

    /// The same over 16 columns, with one product.
    ///
    /// # Safety
    ///
    /// As [`multiply_64`](Self::multiply_64).
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub unsafe fn multiply_16(self, a: Descriptor, b: Descriptor) -> Self {
        // SAFETY: the caller's contract.
        Self(unsafe { self.0.multiply_16(a, b) })
    }

    /// `wgmma.wait_group PENDING`: waits for all groups of the warpgroup but the latest PENDING.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup execute it.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub unsafe fn wait_for_all_but<const PENDING: u32>(self) -> Self {
        // SAFETY: the caller's contract.
        Self(unsafe { self.0.wait::<PENDING>() })
    }

    /// `wgmma.wait_group PENDING`: the sums, when all groups of the warpgroup but the latest PENDING are
    /// over.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup execute it; none of the latest PENDING groups adds to these sums.
    #[inline(always)]
    #[must_use]
    #[track_caller]
    pub unsafe fn settle<const PENDING: u32>(self) -> Sums<R> {
        // SAFETY: the caller's contract.
        Sums(unsafe { self.0.wait::<PENDING>() })
    }
}

//! Any machine: arrays that LLVM turns into vectors (SSE2 on plain x86-64, NEON on aarch64), 4 rows × 2
//! vectors of 4. Panels hold f32: without instructions for it, widening f16 in the K loop would cost more
//! than the product.

use half::f16;

use super::{Job, MicroKernel, Run, Tile, Vector, table};

pub(crate) struct Portable;

const LANES: usize = 4;

#[derive(Clone, Copy)]
pub(crate) struct Lanes([f32; LANES]);

impl Vector for Lanes {
    type Element = f32;
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { to.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_panel(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self::load(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { from.cast::<[f16; LANES]>().read_unaligned() }.map(f16::to_f32))
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16) {
        // SAFETY: the trait's contract.
        unsafe { to.cast::<[f16; LANES]>().write_unaligned(self.0.map(f16::from_f32)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // `f32::mul_add` is a library call where there is no instruction for it.
        const FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));
        Self(std::array::from_fn(|i| {
            let (a, b, c) = (self.0[i], factor.0[i], addend.0[i]);
            if FMA { a.mul_add(b, c) } else { a * b + c }
        }))
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn exp2_of_rounded(self) -> Self {
        Self(self.0.map(|rounded| f32::from_bits(rounded.to_bits().wrapping_add(127) << 23)))
    }

    #[inline(always)]
    unsafe fn store_panel(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { self.store(to) }
    }
}

impl Lanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

impl MicroKernel for Portable {
    type Element = f32;
    type Vector = Lanes;
    const LANES: usize = LANES;
    const MR: usize = 4;
    const NV: usize = 2;
    const PITCH: usize = 4;

    #[inline]
    unsafe fn run(rows: usize, vectors: usize, tile: &Tile<f32>) {
        const TABLE: [[Run<f32>; Portable::NV]; Portable::MR] = table!(run; 1 2 3 4; [1 2]);
        // SAFETY: the caller vouches for everything that the kernel asks.
        unsafe { TABLE[rows - 1][vectors - 1](tile) }
    }

    unsafe fn pack(x: *const f16, ld: isize, rows: usize, k: usize, packed: *mut f32) {
        for r in 0..Self::PITCH {
            for i in 0..k {
                // SAFETY: the row exists, i < k, r < PITCH.
                unsafe {
                    let value = if r < rows { (*x.offset(r as isize * ld).add(i)).to_f32() } else { 0.0 };
                    *packed.add(i * Self::PITCH + r) = value;
                }
            }
        }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Lanes>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { job.run() }
    }
}

/// # Safety
///
/// As [`MicroKernel::run`].
unsafe fn run<const R: usize, const V: usize>(t: &Tile<f32>) {
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Lanes, R, V, { Portable::PITCH }>(t) }
}

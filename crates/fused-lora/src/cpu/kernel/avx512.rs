//! AVX-512: 8 rows × 3 vectors of 16, 24 accumulators of the 32 registers.
//!
//! A K step is 3 panel loads with conversion, 8 broadcasts and 24 FMAs. Measured on Zen 4 (one FMA of 512 bit
//! a cycle) as part of peak: 8×48 0.97, 8×16 0.99, 8×32 0.87, 12×32 0.90. Hence 3 vectors, and a remainder of
//! 16 or 32 columns in a narrower panel of its own.

use std::arch::x86_64::*;

use half::f16;

use super::{Job, MicroKernel, Run, Tile, Vector, avx2, table};

pub(crate) struct Avx512;

#[derive(Clone, Copy)]
pub(crate) struct Zmm(__m512);

impl Vector for Zmm {
    type Element = f16;
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_panel(from: *const f16) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self::load_f16(from) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16) {
        // SAFETY: the trait's contract.
        unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm512_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn exp2_of_rounded(self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let biased = _mm512_add_epi32(_mm512_castps_si512(self.0), _mm512_set1_epi32(127));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(biased)))
        }
    }

    #[inline(always)]
    unsafe fn store_panel(self, to: *mut f16) {
        // SAFETY: the trait's contract.
        unsafe { self.store_f16(to) }
    }
}

impl MicroKernel for Avx512 {
    type Element = f16;
    type Vector = Zmm;
    const LANES: usize = Zmm::LANES;
    const MR: usize = 8;
    const NV: usize = 3;
    const PITCH: usize = 8;

    #[inline]
    unsafe fn run(rows: usize, vectors: usize, tile: &Tile<f16>) {
        const TABLE: [[Run<f16>; Avx512::NV]; Avx512::MR] = table!(run; 1 2 3 4 5 6 7 8; [1 2 3]);
        // SAFETY: the caller vouches for everything that the kernel asks.
        unsafe { TABLE[rows - 1][vectors - 1](tile) }
    }

    #[inline]
    unsafe fn pack(x: *const f16, ld: isize, rows: usize, k: usize, packed: *mut f32) {
        // SAFETY: the caller's contract is the same, and AVX-512F implies AVX2 and F16C.
        unsafe { avx2::pack8(x, ld, rows, k, packed) }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Zmm>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { vectorize(job) }
    }
}

/// # Safety
///
/// As [`MicroKernel::run`].
#[target_feature(enable = "avx512f")]
unsafe fn run<const R: usize, const V: usize>(t: &Tile<f16>) {
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Zmm, R, V, { Avx512::PITCH }>(t) }
}

/// # Safety
///
/// As [`MicroKernel::vectorize`].
#[target_feature(enable = "avx512f")]
unsafe fn vectorize<J: Job<Zmm>>(job: J) -> J::Output {
    // SAFETY: the caller's contract is the same.
    unsafe { job.run() }
}

//! AVX-512: 8 rows × 3 vectors of 16, 24 accumulators of the 32 registers.
//!
//! A K step is 3 panel loads with conversion, 8 broadcasts and 24 FMAs. Measured on Zen 4 (one FMA of 512 bit
//! a cycle) as part of peak: 8×48 0.97, 8×16 0.99, 8×32 0.87, 12×32 0.90. Hence 3 vectors, and a remainder of
//! 16 or 32 columns in a narrower panel of its own.

use std::arch::x86_64::*;

use half::{bf16, f16};
use ndarray::ArrayView2;

use super::{
    Job, MicroKernel, Pack, Run, Storage, Tile, TileOf, Vector, Widen, avx2,
    levels::{Kernels, Level, pack_whole, widening},
    table,
};
use crate::cpu::panels::Panels;

/// A vector of 16 f32.
#[derive(Clone, Copy)]
pub(crate) struct Zmm(pub(super) __m512);

impl Vector for Zmm {
    const LANES: usize = 16;

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

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
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let halves = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(halves)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16) {
        // SAFETY: the trait's contract.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            // Half a unit in the last place, less one where the kept part is even: ties go to even.
            let odd = _mm512_and_epi32(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let quiet = _mm512_or_epi32(bits, _mm512_set1_epi32(0x40_0000));
            let halves = _mm512_srli_epi32::<16>(_mm512_mask_mov_epi32(rounded, is_nan, quiet));
            _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(halves));
        }
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
}

/// Panels of `W`, then of `B`, widened; y of `Out`.
pub(crate) struct Fma<W, B, Out>(std::marker::PhantomData<(W, B, Out)>);

impl<W: Storage, B: Storage, Out: Storage> Fma<W, B, Out> {
    const TABLE: [[Run<f32, W, B, Out>; 3]; 8] = table!(run [W, B, Out]; 1 2 3 4 5 6 7 8; [1 2 3]);
}

impl<W: Storage, B: Storage, Out: Storage> MicroKernel for Fma<W, B, Out> {
    type X = f32;
    type W = W;
    type B = B;
    type Out = Out;
    type Vector = Zmm;
    const MR: usize = 8;
    const NV: usize = 3;
    const DEPTH: usize = 1;

    #[inline]
    unsafe fn run(rows: usize, vectors: usize, tile: &TileOf<Self>) {
        // SAFETY: the caller vouches for everything that the kernel asks.
        unsafe { Self::TABLE[rows - 1][vectors - 1](tile) }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Zmm>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { vectorize(job) }
    }
}

impl<T: Storage, W: Storage, B: Storage, Out: Storage> Pack<T> for Fma<W, B, Out> {
    #[inline]
    unsafe fn pack(x: *const T, ld: isize, rows: usize, k: usize, packed: *mut f32) {
        // SAFETY: the caller's contract is the same, and AVX-512F implies AVX2 and F16C.
        unsafe { avx2::pack::<avx2::Widened<T>>(x, ld, rows, k, packed) }
    }
}

widening!(Avx512);

/// # Safety
///
/// As [`MicroKernel::run`].
#[target_feature(enable = "avx512f")]
unsafe fn run<W: Storage, B: Storage, Out: Storage, const R: usize, const V: usize>(
    t: &Tile<f32, W, B, Out>,
) {
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Widen<Zmm, W>, Widen<Zmm, B>, Out, R, V>(t) }
}

/// # Safety
///
/// As [`MicroKernel::vectorize`].
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn vectorize<J: Job<Zmm>>(job: J) -> J::Output {
    // SAFETY: the caller's contract is the same.
    unsafe { job.run() }
}

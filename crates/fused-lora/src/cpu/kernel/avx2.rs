//! AVX2, FMA and F16C: 6 rows × 2 vectors of 8, 12 accumulators of the 16 registers.

use std::arch::x86_64::*;

use half::{bf16, f16};
use ndarray::ArrayView2;

use super::{
    Job, MicroKernel, Pack, Run, Storage, Tile, TileOf, Vector, Widen,
    levels::{Kernels, Level, pack_whole, widening},
    table,
};
use crate::cpu::{buffer::Plain, panels::Panels};

/// A vector of 8 f32.
#[derive(Clone, Copy)]
pub(crate) struct Ymm(__m256);

impl Vector for Ymm {
    const LANES: usize = 8;

    #[inline(always)]
    unsafe fn prefetch(from: *const u8) {
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_set1_ps(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the trait's contract.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
    }

    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16) {
        // SAFETY: the trait's contract.
        unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let halves = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(halves)))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16) {
        // SAFETY: the trait's contract.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            // Half a unit in the last place, less one where the kept part is even: ties go to even.
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let halves = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, is_nan));
            let (low, high) = (_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves));
            _mm_storeu_si128(to.cast(), _mm_packus_epi32(low, high));
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, addend: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, addend.0) })
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }

    #[inline(always)]
    unsafe fn exp2_of_rounded(self) -> Self {
        // SAFETY: the trait's contract.
        unsafe {
            let biased = _mm256_add_epi32(_mm256_castps_si256(self.0), _mm256_set1_epi32(127));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased)))
        }
    }
}

/// Panels of `W`, then of `B`, widened; y of `Out`.
pub(crate) struct Fma<W, B, Out>(std::marker::PhantomData<(W, B, Out)>);

impl<W: Storage, B: Storage, Out: Storage> Fma<W, B, Out> {
    const TABLE: [[Run<f32, W, B, Out>; 2]; 6] = table!(run [W, B, Out]; 1 2 3 4 5 6; [1 2]);
}

impl<W: Storage, B: Storage, Out: Storage> MicroKernel for Fma<W, B, Out> {
    type X = f32;
    type W = W;
    type B = B;
    type Out = Out;
    type Vector = Ymm;
    const MR: usize = 6;
    const NV: usize = 2;
    const DEPTH: usize = 1;

    #[inline]
    unsafe fn run(rows: usize, vectors: usize, tile: &TileOf<Self>) {
        // SAFETY: the caller vouches for everything that the kernel asks.
        unsafe { Self::TABLE[rows - 1][vectors - 1](tile) }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Ymm>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { vectorize(job) }
    }
}

impl<T: Storage, W: Storage, B: Storage, Out: Storage> Pack<T> for Fma<W, B, Out> {
    #[inline]
    unsafe fn pack(x: *const T, ld: isize, rows: usize, k: usize, packed: *mut f32) {
        // SAFETY: the caller's contract is the same.
        unsafe { pack::<Widened<T>>(x, ld, rows, k, packed) }
    }
}

widening!(Avx2);

/// # Safety
///
/// As [`MicroKernel::run`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<W: Storage, B: Storage, Out: Storage, const R: usize, const V: usize>(
    t: &Tile<f32, W, B, Out>,
) {
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Widen<Ymm, W>, Widen<Ymm, B>, Out, R, V>(t) }
}

/// # Safety
///
/// As [`MicroKernel::vectorize`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn vectorize<J: Job<Ymm>>(job: J) -> J::Output {
    // SAFETY: the caller's contract is the same.
    unsafe { job.run() }
}

/// How a row of x becomes units of 32 bits.
///
/// # Safety
///
/// All methods: this CPU has AVX2 and F16C, and there are as many elements to be read as is said.
pub(super) trait Units {
    type T: Plain;
    type X: Plain;
    /// Elements of a unit.
    const DEPTH: usize;
    /// Eight units.
    unsafe fn load(from: *const Self::T) -> __m256;
    /// One unit, of `n ≤ DEPTH` elements and zeros.
    unsafe fn unit(from: *const Self::T, n: usize) -> Self::X;
}

/// Elements widened to f32.
pub(super) struct Widened<T>(std::marker::PhantomData<T>);

impl<T: Storage> Units for Widened<T> {
    type T = T;
    type X = f32;
    const DEPTH: usize = 1;

    #[inline(always)]
    unsafe fn load(from: *const T) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { T::load::<Ymm>(from).0 }
    }

    #[inline(always)]
    unsafe fn unit(from: *const T, _: usize) -> f32 {
        let mut unit = [0.0; Ymm::LANES];
        // SAFETY: the trait's contract: one element.
        unsafe { T::load_first::<Ymm>(from, 1).store(unit.as_mut_ptr()) };
        unit[0]
    }
}

/// [`Pack::pack`] for up to 8 rows: blocks of 8 rows × 8 units are transposed in registers. Of fewer rows the
/// last one is read again instead of those that are missing; what a store writes for them, the next one
/// overwrites.
///
/// # Safety
///
/// As [`Pack::pack`].
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn pack<U: Units>(x: *const U::T, ld: isize, rows: usize, k: usize, packed: *mut U::X) {
    let row = |r: usize| x.wrapping_offset(r.min(rows - 1) as isize * ld);
    let mut step = 0;
    let steps = k.div_ceil(U::DEPTH);
    // Eight units to read, of whole elements, and eight to write at the last of them.
    while (step + 8) * U::DEPTH <= k && (step + 7) * rows + 8 <= steps * rows {
        // SAFETY: these units lie in existing rows; those written, inside the packed block.
        unsafe {
            let block = std::array::from_fn(|r| U::load(row(r).add(step * U::DEPTH)));
            if rows == 1 {
                _mm256_storeu_ps(packed.add(step).cast(), block[0]);
            } else {
                for (i, column) in transpose(block).into_iter().enumerate() {
                    _mm256_storeu_ps(packed.add((step + i) * rows).cast(), column);
                }
            }
        }
        step += 8;
    }
    for step in step..steps {
        for r in 0..rows {
            // SAFETY: a step that begins inside of an existing row.
            unsafe {
                let first = step * U::DEPTH;
                *packed.add(step * rows + r) = U::unit(row(r).add(first), (k - first).min(U::DEPTH));
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn transpose(rows: [__m256; 8]) -> [__m256; 8] {
    let [r0, r1, r2, r3, r4, r5, r6, r7] = rows;
    // Pairs of rows, then fours, then the two halves: abbreviations are of the lanes of r0..r3.
    let (a0, a1) = (_mm256_unpacklo_ps(r0, r1), _mm256_unpackhi_ps(r0, r1));
    let (a2, a3) = (_mm256_unpacklo_ps(r2, r3), _mm256_unpackhi_ps(r2, r3));
    let (a4, a5) = (_mm256_unpacklo_ps(r4, r5), _mm256_unpackhi_ps(r4, r5));
    let (a6, a7) = (_mm256_unpacklo_ps(r6, r7), _mm256_unpackhi_ps(r6, r7));
    let (b0, b1) = (_mm256_shuffle_ps::<0x44>(a0, a2), _mm256_shuffle_ps::<0xee>(a0, a2));
    let (b2, b3) = (_mm256_shuffle_ps::<0x44>(a1, a3), _mm256_shuffle_ps::<0xee>(a1, a3));
    let (b4, b5) = (_mm256_shuffle_ps::<0x44>(a4, a6), _mm256_shuffle_ps::<0xee>(a4, a6));
    let (b6, b7) = (_mm256_shuffle_ps::<0x44>(a5, a7), _mm256_shuffle_ps::<0xee>(a5, a7));
    [
        _mm256_permute2f128_ps::<0x20>(b0, b4),
        _mm256_permute2f128_ps::<0x20>(b1, b5),
        _mm256_permute2f128_ps::<0x20>(b2, b6),
        _mm256_permute2f128_ps::<0x20>(b3, b7),
        _mm256_permute2f128_ps::<0x31>(b0, b4),
        _mm256_permute2f128_ps::<0x31>(b1, b5),
        _mm256_permute2f128_ps::<0x31>(b2, b6),
        _mm256_permute2f128_ps::<0x31>(b3, b7),
    ]
}

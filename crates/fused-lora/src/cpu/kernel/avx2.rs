//! AVX2, FMA and F16C: 6 rows × 2 vectors of 8, 12 accumulators of the 16 registers.

use std::arch::x86_64::*;

use half::f16;

use super::{Job, MicroKernel, Run, Tile, Vector, table};

pub(crate) struct Avx2;

#[derive(Clone, Copy)]
pub(crate) struct Ymm(__m256);

impl Vector for Ymm {
    type Element = f16;
    const LANES: usize = 8;

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
    unsafe fn load_panel(from: *const f16) -> Self {
        // SAFETY: the trait's contract.
        unsafe { Self::load_f16(from) }
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

    #[inline(always)]
    unsafe fn store_panel(self, to: *mut f16) {
        // SAFETY: the trait's contract.
        unsafe { self.store_f16(to) }
    }
}

impl MicroKernel for Avx2 {
    type Element = f16;
    type Vector = Ymm;
    const LANES: usize = Ymm::LANES;
    const MR: usize = 6;
    const NV: usize = 2;
    // The transposition below writes 8 rows.
    const PITCH: usize = 8;

    #[inline]
    unsafe fn run(rows: usize, vectors: usize, tile: &Tile<f16>) {
        const TABLE: [[Run<f16>; Avx2::NV]; Avx2::MR] = table!(run; 1 2 3 4 5 6; [1 2]);
        // SAFETY: the caller vouches for everything that the kernel asks.
        unsafe { TABLE[rows - 1][vectors - 1](tile) }
    }

    #[inline]
    unsafe fn pack(x: *const f16, ld: isize, rows: usize, k: usize, packed: *mut f32) {
        // SAFETY: the caller's contract is the same.
        unsafe { pack8(x, ld, rows, k, packed) }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Ymm>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { vectorize(job) }
    }
}

/// # Safety
///
/// As [`MicroKernel::run`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run<const R: usize, const V: usize>(t: &Tile<f16>) {
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Ymm, R, V, { Avx2::PITCH }>(t) }
}

/// # Safety
///
/// As [`MicroKernel::vectorize`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn vectorize<J: Job<Ymm>>(job: J) -> J::Output {
    // SAFETY: the caller's contract is the same.
    unsafe { job.run() }
}

/// [`MicroKernel::pack`] for a pitch of 8: blocks of 8 × 8 are widened and transposed in registers.
///
/// # Safety
///
/// As [`MicroKernel::pack`], with up to 8 rows.
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn pack8(x: *const f16, ld: isize, rows: usize, k: usize, packed: *mut f32) {
    const PITCH: usize = 8;
    // A row that does not exist is another copy of the last one: its lanes are never used, but can be read.
    let row = |r: usize| x.wrapping_offset(r.min(rows - 1) as isize * ld);
    let whole = k - k % 8;
    for k in (0..whole).step_by(8) {
        // SAFETY: k + 8 ≤ the caller's k, in existing rows.
        let block = std::array::from_fn(|r| unsafe { Ymm::load_f16(row(r).add(k)).0 });
        for (i, column) in transpose(block).into_iter().enumerate() {
            // SAFETY: k + i < the caller's k, PITCH elements each.
            unsafe { Ymm(column).store(packed.add((k + i) * PITCH)) };
        }
    }
    for k in whole..k {
        for r in 0..PITCH {
            // SAFETY: k < the caller's k, in an existing row; r < PITCH.
            unsafe { *packed.add(k * PITCH + r) = (*row(r).add(k)).to_f32() };
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

//! AVX-512 with BF16: the tile of AVX-512, 8 × 3 vectors, over pairs of K.
//!
//! A step is two elements of K: 3 loads of 16 pairs of W, 8 broadcasts of a pair of x and 24 `vdpbf16ps`,
//! each 32 multiply-adds. On Zen 4 that is twice the rate of FMAs; measured there 0.99 of peak on resident
//! data. On Sapphire Rapids `vdpbf16ps` runs on one port, as many multiply-adds a cycle as FMAs on two;
//! [`amx`](super::amx) is the level that such a CPU takes.
//!
//! The instruction (Intel SDM, "VDPBF16PS"; read off a CPU) adds the product of the odd element of a pair
//! first, then that of the even one, each sum rounded to nearest even. Subnormal inputs, products and sums
//! become zero: the bound of [`reference`](mod@crate::reference) has `2⁻¹²⁶` for each of them.

use std::arch::x86_64::*;

use half::bf16;
use ndarray::ArrayView2;

use super::{
    Job, MicroKernel, Pack, Run, Step, Storage, Tile, TileOf, Unit, avx2,
    avx512::{self, Zmm},
    levels::{Kernels, Level},
    split::{self, is_split},
    table,
};
use crate::cpu::{buffer::Plain, panels::Panels};

/// Two elements of K, the even one in the lower half; of an odd K the last one is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(transparent)]
pub(crate) struct Pair(u32);

// SAFETY: a u32.
unsafe impl Plain for Pair {}

impl Unit<bf16> for Pair {
    const DEPTH: usize = 2;

    fn gather(values: impl Fn(usize) -> bf16) -> Self {
        Self(u32::from(values(0).to_bits()) | u32::from(values(1).to_bits()) << 16)
    }
}

/// Products of pairs, so many steps beside each other in packed x.
pub(crate) struct Pairs<const TOGETHER: usize>;

impl<const TOGETHER: usize> Step for Pairs<TOGETHER> {
    type Vector = Zmm;
    type X = Pair;
    type W = Pair;
    type Wide = __m512i;
    const TOGETHER: usize = TOGETHER;

    #[inline(always)]
    unsafe fn broadcast(x: Pair) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_set1_epi32(x.0 as i32) }
    }

    #[inline(always)]
    unsafe fn load(w: *const Pair) -> __m512i {
        // SAFETY: the trait's contract.
        unsafe { _mm512_loadu_si512(w.cast()) }
    }

    #[inline(always)]
    unsafe fn multiply_add(x: __m512i, w: __m512i, acc: Zmm) -> Zmm {
        // SAFETY: the trait's contract; either type is 512 bits, of which every pattern is a value.
        unsafe {
            let [x, w] = [x, w].map(|v| std::mem::transmute::<__m512i, __m512bh>(v));
            Zmm(_mm512_dpbf16_ps(acc.0, x, w))
        }
    }
}

/// Panels of pairs; y of `Out`.
pub(crate) struct Dot<Out>(std::marker::PhantomData<Out>);

impl<Out: Storage> Dot<Out> {
    const TABLE: [[Run<Pair, Pair, Pair, Out>; 3]; 8] = table!(run [Out]; 1 2 3 4 5 6 7 8; [1 2 3]);
}

impl<Out: Storage> MicroKernel for Dot<Out> {
    type X = Pair;
    type W = Pair;
    type B = Pair;
    type Out = Out;
    type Vector = Zmm;
    const MR: usize = 8;
    const NV: usize = 3;
    const DEPTH: usize = 2;
    const BLOCK: [usize; 2] = [64, 2048];

    #[inline]
    unsafe fn run(rows: usize, vectors: usize, tile: &TileOf<Self>) {
        // SAFETY: the caller vouches for everything that the kernel asks.
        unsafe { Self::TABLE[rows - 1][vectors - 1](tile) }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Zmm>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { avx512::vectorize(job) }
    }
}

/// Rows of bf16 as pairs.
struct AsPairs;

impl avx2::Units for AsPairs {
    type T = bf16;
    type X = Pair;
    const DEPTH: usize = 2;

    #[inline(always)]
    unsafe fn load(from: *const bf16) -> __m256 {
        // SAFETY: the trait's contract.
        unsafe { _mm256_loadu_ps(from.cast()) }
    }

    #[inline(always)]
    unsafe fn unit(from: *const bf16, n: usize) -> Pair {
        // SAFETY: the trait's contract: n elements.
        Pair::gather(|i| if i < n { unsafe { *from.add(i) } } else { bf16::ZERO })
    }
}

impl<Out: Storage> Pack<bf16> for Dot<Out> {
    #[inline]
    unsafe fn pack(x: *const bf16, ld: isize, rows: usize, k: usize, packed: *mut Pair) {
        // SAFETY: the caller's contract is the same, and AVX-512F implies AVX2 and F16C.
        unsafe { avx2::pack::<AsPairs>(x, ld, rows, k, packed) }
    }
}

/// A layer of bf16 with an adapter of `H`, which is split if it is f32.
pub(crate) struct Avx512Bf16<H>(std::marker::PhantomData<H>);

impl<H: Storage> Kernels for Avx512Bf16<H> {
    type In = bf16;
    type H = H;
    type Wide = bf16;
    type Main = Dot<bf16>;
    type Shrink = Dot<H>;
    type Expand = Dot<bf16>;
    type Piece = Self::Expand;
    const SPLIT: bool = is_split::<H>();

    unsafe fn split_h(rows: usize, rank: usize, h: *const H, to: *mut bf16) {
        // SAFETY: the caller's contract is the same.
        unsafe { split::split_h(rows, rank, h, to) }
    }
}

impl<H: Storage> Level for Avx512Bf16<H> {
    type Lora = H;

    fn pack_weight(w: ArrayView2<'_, bf16>) -> Panels {
        Panels::pack::<Self::Main, Pair, bf16>(w)
    }

    fn pack_adapter(a: ArrayView2<'_, H>, b: ArrayView2<'_, H>) -> [Panels; 2] {
        split::pack::<Self::Main, H>(a, b)
    }
}

/// # Safety
///
/// As [`MicroKernel::run`].
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn run<Out: Storage, const R: usize, const V: usize>(t: &Tile<Pair, Pair, Pair, Out>) {
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Pairs<1>, Pairs<1>, Out, R, V>(t) }
}

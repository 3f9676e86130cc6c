//! Any machine: arrays that LLVM turns into vectors (SSE2 on plain x86-64, NEON on aarch64), 4 rows × 2
//! vectors of 4. Panels hold f32: without instructions for it, widening f16 in the K loop would cost more
//! than the product.

use half::{bf16, f16};
use ndarray::ArrayView2;

use super::{
    Job, MicroKernel, Pack, Run, Storage, Tile, TileOf, Unit, Vector, Widen,
    levels::{Kernels, Level, pack_whole},
    table,
};
use crate::cpu::panels::Panels;

const LANES: usize = 4;

/// A vector of 4 f32.
#[derive(Clone, Copy)]
pub(crate) struct Lanes([f32; LANES]);

impl Vector for Lanes {
    const LANES: usize = LANES;

    #[inline(always)]
    unsafe fn prefetch(_: *const u8) {}

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
    unsafe fn load_bf16(from: *const bf16) -> Self {
        // SAFETY: the trait's contract.
        Self(unsafe { from.cast::<[bf16; LANES]>().read_unaligned() }.map(bf16::to_f32))
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut bf16) {
        // SAFETY: the trait's contract.
        unsafe { to.cast::<[bf16; LANES]>().write_unaligned(self.0.map(bf16::from_f32)) }
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
}

impl Lanes {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }
}

/// Panels of f32, y of `Out`.
pub(crate) struct Fma<Out>(std::marker::PhantomData<Out>);

impl<Out: Storage> Fma<Out> {
    const TABLE: [[Run<f32, f32, f32, Out>; 2]; 4] = table!(run [Out]; 1 2 3 4; [1 2]);
}

impl<Out: Storage> MicroKernel for Fma<Out> {
    type X = f32;
    type W = f32;
    type B = f32;
    type Out = Out;
    type Vector = Lanes;
    const MR: usize = 4;
    const NV: usize = 2;
    const DEPTH: usize = 1;

    #[inline]
    unsafe fn run(rows: usize, vectors: usize, tile: &TileOf<Self>) {
        // SAFETY: the caller vouches for everything that the kernel asks.
        unsafe { Self::TABLE[rows - 1][vectors - 1](tile) }
    }

    #[inline]
    unsafe fn vectorize<J: Job<Lanes>>(job: J) -> J::Output {
        // SAFETY: the caller's contract is the same.
        unsafe { job.run() }
    }
}

impl<T: Storage, Out: Storage> Pack<T> for Fma<Out> {
    unsafe fn pack(x: *const T, ld: isize, rows: usize, k: usize, packed: *mut f32) {
        for r in 0..rows {
            for i in 0..k {
                // SAFETY: the row exists, and i < k.
                unsafe { *packed.add(i * rows + r) = (*x.offset(r as isize * ld).add(i)).widen() };
            }
        }
    }
}

/// A layer of `T` with an adapter of `H`.
pub(crate) struct Portable<T, H>(std::marker::PhantomData<(T, H)>);

impl<T: Storage, H: Storage> Kernels for Portable<T, H>
where
    f32: Unit<T> + Unit<H>,
{
    type In = T;
    type H = f32;
    type Wide = f32;
    type Main = Fma<T>;
    type Shrink = Fma<f32>;
    type Expand = Fma<T>;
    type Piece = Self::Expand;
    const SPLIT: bool = false;
}

impl<T: Storage, H: Storage> Level for Portable<T, H>
where
    f32: Unit<T> + Unit<H>,
{
    type Lora = H;

    fn pack_weight(w: ArrayView2<'_, T>) -> Panels {
        Panels::pack::<Self::Main, f32, T>(w)
    }

    fn pack_adapter(a: ArrayView2<'_, H>, b: ArrayView2<'_, H>) -> [Panels; 2] {
        pack_whole::<Self::Main, H>(a, b)
    }
}

/// # Safety
///
/// As [`MicroKernel::run`].
unsafe fn run<Out: Storage, const R: usize, const V: usize>(t: &Tile<f32, f32, f32, Out>) {
    // SAFETY: the caller's contract is the same.
    unsafe { super::tile::<Widen<Lanes, f32>, Widen<Lanes, f32>, Out, R, V>(t) }
}

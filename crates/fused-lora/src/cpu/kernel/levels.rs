//! Which micro-kernels a SIMD level has for a layer of one type with an adapter of another.
//!
//! | level | f16 | bf16 | f32 |
//! |---|---|---|---|
//! | AMX | as AVX-512 | `tdpbf16ps` | as AVX-512 |
//! | AVX-512 with BF16 | as AVX-512 | `vdpbf16ps` | as AVX-512 |
//! | AVX-512, AVX2, portable | widened to f32 | widened to f32 | f32 |
//!
//! An adapter is of the layer's type or f32. Kernels that widen to f32 leave h in f32: it costs nothing, and h
//! does not overflow where y does not. Where products are of bf16 alone, h is rounded to it, and an f32
//! adapter is packed in parts ([`split`](super::split)).

use ndarray::ArrayView2;

use super::{MicroKernel, Pack, Storage, Unit};
use crate::cpu::panels::Panels;

/// What the CPU's kernels ask of an element type: how vectors of it are loaded and stored, and the kernels of
/// the levels that serve some types only.
pub(crate) trait Compute: Storage {
    /// On a CPU with AMX.
    #[cfg(target_arch = "x86_64")]
    type Amx<H: Storage>: Level<In = Self, Lora = H>;
    /// On a CPU with AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    type Avx512Bf16<H: Storage>: Level<In = Self, Lora = H>;
}

/// The micro-kernels of one pass over x and y.
pub(crate) trait Kernels: 'static {
    /// x's elements.
    type In: Storage;
    /// h as the shrink leaves it.
    type H: Storage;
    /// h as the expand takes it.
    type Wide: Storage;
    /// `x Wᵀ + h Bᵀ`
    type Main: Pack<Self::In> + Pack<Self::Wide>;
    /// `x Aᵀ`
    type Shrink: MicroKernel<
            X = <Self::Main as MicroKernel>::X,
            W = <Self::Main as MicroKernel>::B,
            B = <Self::Main as MicroKernel>::B,
            Out = Self::H,
        > + Pack<Self::In>;
    /// `h Bᵀ` alone.
    type Expand: MicroKernel<
            X = <Self::Main as MicroKernel>::X,
            W = <Self::Main as MicroKernel>::B,
            B = <Self::Main as MicroKernel>::B,
            Out = <Self::Main as MicroKernel>::Out,
        > + Pack<Self::Wide>;
    /// `h Bᵀ` of some of a tile's rows.
    type Piece: MicroKernel<
            X = <Self::Main as MicroKernel>::X,
            W = <Self::Main as MicroKernel>::B,
            B = <Self::Main as MicroKernel>::B,
            Out = <Self::Main as MicroKernel>::Out,
        >;
    /// A, B and h are in parts: A has 2r rows, B 3r columns.
    const SPLIT: bool;

    /// Makes `[rows][3r]` for the expand from the shrink's `[rows][2r]`; asked for only where h is in parts.
    ///
    /// # Safety
    ///
    /// h can be read and `to` written for so many elements.
    unsafe fn split_h(_rows: usize, _rank: usize, _h: *const Self::H, _to: *mut Self::Wide) {
        unreachable!("h is in one part")
    }
}

/// Elements of y.
pub(crate) type OutOf<P> = <<P as Kernels>::Main as MicroKernel>::Out;

/// The kernels of a SIMD level for a layer of `In` with an adapter of `H`.
pub(crate) trait Level: Kernels<Main: MicroKernel<Out = Self::In>> {
    /// Elements of A and B.
    type Lora: Storage;

    /// `w: [N, K]`, packed.
    fn pack_weight(w: ArrayView2<'_, Self::In>) -> Panels;

    /// `a: [r, K]` and `b: [N, r]`, packed.
    fn pack_adapter(a: ArrayView2<'_, Self::Lora>, b: ArrayView2<'_, Self::Lora>) -> [Panels; 2];
}

/// A product without an adapter, for any micro-kernel whose W and B are of one type.
pub(crate) struct Alone<In, M>(std::marker::PhantomData<(In, M)>);

impl<In: Storage, M> Kernels for Alone<In, M>
where
    M: MicroKernel<B = <M as MicroKernel>::W> + Pack<In>,
{
    type In = In;
    type H = M::Out;
    type Wide = In;
    type Main = M;
    type Shrink = M;
    type Expand = M;
    type Piece = M;
    const SPLIT: bool = false;
}

/// Packs an adapter whose panels hold units of its own type.
pub(crate) fn pack_whole<M: MicroKernel<B: Unit<H>>, H: Storage>(
    a: ArrayView2<'_, H>,
    b: ArrayView2<'_, H>,
) -> [Panels; 2] {
    [a, b].map(|view| Panels::pack::<M, M::B, H>(view))
}

/// A level whose kernels widen panels of the weight's own type: `Fma`, of the file where this stands.
#[cfg(target_arch = "x86_64")]
macro_rules! widening {
    ($level:ident) => {
        /// A layer of `T` with an adapter of `H`, by FMAs on f32.
        pub(crate) struct $level<T, H>(std::marker::PhantomData<(T, H)>);

        impl<T: Storage, H: Storage> Kernels for $level<T, H> {
            type In = T;
            type H = f32;
            type Wide = f32;
            type Main = Fma<T, H, T>;
            type Shrink = Fma<H, H, f32>;
            type Expand = Fma<H, H, T>;
            type Piece = Self::Expand;
            const SPLIT: bool = false;
        }

        impl<T: Storage, H: Storage> Level for $level<T, H> {
            type Lora = H;

            fn pack_weight(w: ArrayView2<'_, T>) -> Panels {
                Panels::pack::<Self::Main, T, T>(w)
            }

            fn pack_adapter(a: ArrayView2<'_, H>, b: ArrayView2<'_, H>) -> [Panels; 2] {
                pack_whole::<Self::Main, H>(a, b)
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use widening;

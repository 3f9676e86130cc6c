//! Which micro-kernels a SIMD level has for a layer of one type with an adapter of another.
//!
//! | level | f16 | bf16 | f32 |
//! |---|---|---|---|
//! | AMX | as AVX-512 | `tdpbf16ps` | as AVX-512 |
//! | AVX-512 with BF16 | as AVX-512 | `vdpbf16ps` | as AVX-512 |
//! | AVX-512, AVX2, portable | widened to f32 | widened to f32 | f32 |
//!
//! An adapter is of the layer's type, and h is rounded to it; or it is f32, and h stays f32. Where products are of
//! bf16 alone, an f32 adapter is packed in parts: with `a₁ = bf16(a)` and `a₂ = bf16(a − a₁)`, a is `a₁ + a₂` to
//! 2⁻¹⁸, so A becomes `[A₁; A₂]`, 2r columns of the shrink, whose f32 sums are added. h and B are cut likewise,
//! and `h Bᵀ` is `[h₁ | h₂ | h₁] · [B₁ | B₁ | B₂]ᵀ`, 3r steps of the expand; what is left out is 2⁻¹⁸ of it.

use half::bf16;
use ndarray::{Array2, ArrayView2, Axis, concatenate};

use super::{MicroKernel, Pack, Storage};
use crate::{
    cpu::panels::{Panels, Unit},
    element::Element,
};

/// What the CPU's kernels ask of an element type: how vectors of it are loaded and stored, and the kernels of the
/// levels that serve some types only.
pub(crate) trait Compute: Storage + Unit<Self> {
    /// On a CPU with AMX.
    #[cfg(target_arch = "x86_64")]
    type Amx<H: Element>: Level<In = Self, H = H>;
    /// On a CPU with AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    type Avx512Bf16<H: Element>: Level<In = Self, H = H>;
}

/// The micro-kernels of one pass over x and y.
pub(crate) trait Kernels: 'static {
    /// x's elements.
    type In: Element;
    /// h as the shrink leaves it.
    type H: Element;
    /// h as the expand takes it.
    type Wide: Element;
    /// `x Wᵀ + h Bᵀ`
    type Main: MicroKernel<Out: Element> + Pack<Self::In> + Pack<Self::Wide>;
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
    /// A, B and h are in parts: A has 2r rows, B 3r columns.
    const SPLIT: bool;

    /// Makes `[rows][3r]` for the expand from the shrink's `[rows][2r]`.
    ///
    /// # Safety
    ///
    /// h can be read and `to` written for so many elements.
    unsafe fn split_h(rows: usize, rank: usize, h: *const Self::H, to: *mut Self::Wide) {
        debug_assert!(Self::SPLIT);
        for row in 0..rows {
            for l in 0..rank {
                // SAFETY: the caller's contract.
                unsafe {
                    let h = h.add(row * 2 * rank + l);
                    let parts = parts((*h).to_f32() + (*h.add(rank)).to_f32());
                    let to = to.add(row * 3 * rank + l);
                    for (i, part) in [parts[0], parts[1], parts[0]].into_iter().enumerate() {
                        *to.add(i * rank) = Self::Wide::from_f32(part.to_f32());
                    }
                }
            }
        }
    }
}

/// Elements of y.
pub(crate) type OutOf<P> = <<P as Kernels>::Main as MicroKernel>::Out;

/// The kernels of a SIMD level for a layer of `In` with an adapter of `H`.
pub(crate) trait Level: Kernels<Main: MicroKernel<Out = Self::In>> {
    /// `w: [N, K]`, packed.
    fn pack_weight(w: ArrayView2<'_, Self::In>) -> Panels;

    /// `a: [r, K]` and `b: [N, r]`, packed.
    fn pack_adapter(a: ArrayView2<'_, Self::H>, b: ArrayView2<'_, Self::H>) -> [Panels; 2];
}

/// A product without an adapter, for any micro-kernel whose W and B are of one type.
pub(crate) struct Alone<In, M>(std::marker::PhantomData<(In, M)>);

impl<In: Element, M> Kernels for Alone<In, M>
where
    M: MicroKernel<B = <M as MicroKernel>::W, Out: Element> + Pack<In>,
{
    type In = In;
    type H = M::Out;
    type Wide = In;
    type Main = M;
    type Shrink = M;
    type Expand = M;
    const SPLIT: bool = false;
}

/// Packs an adapter whose panels hold units of its own type.
pub(crate) fn pack_whole<M: MicroKernel<B: Unit<H>>, H: Element>(
    a: ArrayView2<'_, H>,
    b: ArrayView2<'_, H>,
) -> [Panels; 2] {
    [a, b].map(|view| Panels::pack::<M, M::B, H>(view))
}

/// Packs an adapter for products of bf16: as it is, or in parts.
pub(crate) fn pack_bf16<M: MicroKernel<B: Unit<bf16>>, H: Element>(
    a: ArrayView2<'_, H>,
    b: ArrayView2<'_, H>,
) -> [Panels; 2] {
    if is_split::<H>() {
        let part = |view: &ArrayView2<'_, H>, i: usize| view.mapv(|value| parts(value.to_f32())[i]);
        let [a1, a2] = [0, 1].map(|i| part(&a, i));
        let [b1, b2] = [0, 1].map(|i| part(&b, i));
        let join = |axis, parts: &[ArrayView2<'_, bf16>]| -> Array2<bf16> {
            concatenate(Axis(axis), parts).expect("parts of one matrix")
        };
        let (a, b) = (join(0, &[a1.view(), a2.view()]), join(1, &[b1.view(), b1.view(), b2.view()]));
        [a.view(), b.view()].map(|view| Panels::pack::<M, M::B, bf16>(view))
    } else {
        let [a, b] = [a, b].map(|view| view.mapv(|value| bf16::from_f32(value.to_f32())));
        [a.view(), b.view()].map(|view| Panels::pack::<M, M::B, bf16>(view))
    }
}

/// Whether an adapter of this type is split for products of bf16.
pub(crate) const fn is_split<H: Element>() -> bool {
    matches!(H::DTYPE, crate::DType::F32)
}

/// The two parts of a value; the second is zero where there is nothing to be added.
fn parts(value: f32) -> [bf16; 2] {
    let high = bf16::from_f32(value);
    let rest = value - high.to_f32();
    // Of an infinity and a NaN the high part says it all.
    [high, if rest.is_finite() { bf16::from_f32(rest) } else { bf16::ZERO }]
}

macro_rules! compute {
    ($type:ty, $amx:ty, $avx512_bf16:ty) => {
        impl Compute for $type {
            #[cfg(target_arch = "x86_64")]
            type Amx<H: Element> = $amx;
            #[cfg(target_arch = "x86_64")]
            type Avx512Bf16<H: Element> = $avx512_bf16;
        }
    };
}
compute!(half::f16, super::avx512::Avx512<Self, H>, super::avx512::Avx512<Self, H>);
compute!(bf16, super::amx::Amx<H>, super::avx512_bf16::Avx512Bf16<H>);
compute!(f32, super::avx512::Avx512<Self, H>, super::avx512::Avx512<Self, H>);

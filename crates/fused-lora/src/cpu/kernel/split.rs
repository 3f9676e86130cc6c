//! An f32 adapter in parts of bf16, for products of bf16.
//!
//! With `a₁ = bf16(a)` and `a₂ = bf16(a − a₁)`, a is `a₁ + a₂` to 2⁻¹⁸, so A becomes `[A₁; A₂]`, 2r columns
//! of the shrink, whose f32 sums are added. h and B are cut likewise, and `h Bᵀ` is `[h₁ | h₂ | h₁] · [B₁ |
//! B₁ | B₂]ᵀ`, 3r steps of the expand; what is left out, `h₂ B₂ᵀ`, is 2⁻¹⁸ of it.

use half::bf16;
use ndarray::{Array2, ArrayView2, Axis, concatenate};

use super::{MicroKernel, Storage, Unit};
use crate::cpu::panels::Panels;

/// Whether an adapter of this type is packed in parts: f32, the one type that is wider than bf16 and f16.
pub(crate) const fn is_split<H: Storage>() -> bool {
    size_of::<H>() > size_of::<bf16>()
}

/// Packs an adapter for products of bf16: as it is, or in parts.
pub(crate) fn pack<M: MicroKernel<B: Unit<bf16>>, H: Storage>(
    a: ArrayView2<'_, H>,
    b: ArrayView2<'_, H>,
) -> [Panels; 2] {
    let [a, b] = if is_split::<H>() {
        let part = |view: &ArrayView2<'_, H>, i: usize| view.mapv(|value| parts(value.widen())[i]);
        let [a1, a2] = [0, 1].map(|i| part(&a, i));
        let [b1, b2] = [0, 1].map(|i| part(&b, i));
        let join = |axis, parts: &[ArrayView2<'_, bf16>]| -> Array2<bf16> {
            concatenate(Axis(axis), parts).expect("parts of one matrix")
        };
        [join(0, &[a1.view(), a2.view()]), join(1, &[b1.view(), b1.view(), b2.view()])]
    } else {
        [a, b].map(|view| view.mapv(|value| bf16::from_f32(value.widen())))
    };
    [a.view(), b.view()].map(|view| Panels::pack::<M, M::B, bf16>(view))
}

/// [`Kernels::split_h`](super::levels::Kernels::split_h)
///
/// # Safety
///
/// As there.
pub(crate) unsafe fn split_h<H: Storage>(rows: usize, rank: usize, h: *const H, to: *mut bf16) {
    for (row, l) in (0..rows).flat_map(|row| (0..rank).map(move |l| (row, l))) {
        // SAFETY: the caller's contract.
        unsafe {
            let h = h.add(row * 2 * rank + l);
            let [first, second] = parts((*h).widen() + (*h.add(rank)).widen());
            let to = to.add(row * 3 * rank + l);
            for (i, part) in [first, second, first].into_iter().enumerate() {
                *to.add(i * rank) = part;
            }
        }
    }
}

/// The two parts of a value; the second is zero where there is nothing to be added.
fn parts(value: f32) -> [bf16; 2] {
    let high = bf16::from_f32(value);
    let rest = value - high.widen();
    // Of an infinity and a NaN the high part says it all.
    [high, if rest.is_finite() { bf16::from_f32(rest) } else { bf16::ZERO }]
}

//! The crate `gemm`: f16 in and out, operands packed anew in each call.

use fused_lora_benches::linear::Library;
use fused_lora_benches::linear::cpu::Ground;
use fused_lora_benches::linear::weights::SCALE;
use fused_lora_benches::operands::{Layout, on_host};
use gemm::Parallelism;
use half::f16;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use super::{library as named, matrices};

pub(super) fn library() -> Library<Ground> {
    named("gemm-f16", |ground, strategy, rank| {
        let slots = matrices(ground, strategy, rank);
        let mut h = Array2::zeros((0, 0));
        on_host(&ground.operands, ground.cache, Layout::RowMajor, move |slot, tokens| {
            for (weights, tokens) in slots[slot].iter().zip(tokens) {
                let x = tokens.x;
                product(tokens.y_rows(), Previous::Dropped, 1.0, &x, &weights.w.view());
                let Some((a, b)) = &weights.adapter else { continue };
                if h.dim() != (x.nrows(), rank) {
                    h = Array2::zeros((x.nrows(), rank));
                }
                product(h.view_mut(), Previous::Dropped, SCALE, &x, &a.view());
                product(tokens.y_rows(), Previous::Kept, 1.0, &h.view(), &b.view());
            }
            Ok(())
        })
    })
}

/// What becomes of the values in the output.
#[derive(Clone, Copy, PartialEq)]
enum Previous {
    Dropped,
    Kept,
}

/// out ← (previous +) scale · x · wᵀ
fn product(
    mut out: ArrayViewMut2<'_, f16>,
    previous: Previous,
    scale: f32,
    x: &ArrayView2<'_, f16>,
    w: &ArrayView2<'_, f16>,
) {
    let ((m, k), n) = (x.dim(), w.nrows());
    assert_eq!((out.dim(), w.ncols()), ((m, n), k));
    let [(out_rs, out_cs), (x_rs, x_cs), (w_rs, w_cs)] =
        [out.strides(), x.strides(), w.strides()].map(|strides| (strides[0], strides[1]));
    let keep = if previous == Previous::Kept { f16::ONE } else { f16::ZERO };
    // SAFETY: pointers and strides are those of views, whose shapes were compared; `out` is borrowed mutably,
    // so it is neither x nor w. wᵀ has the strides of w, swapped.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            out_cs,
            out_rs,
            previous == Previous::Kept,
            x.as_ptr(),
            x_cs,
            x_rs,
            w.as_ptr(),
            w_rs,
            w_cs,
            keep,
            f16::from_f32(scale),
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}

//! The crate `gemm`: f16 in and out, operands packed anew in each call.

use fused_lora::Strategy;
use gemm::Parallelism;
use half::f16;
use ndarray::{Array2, ArrayView2, ArrayViewMut2};

use crate::method::Method;
use crate::model::{Linear, SCALE};
use crate::tokens::Tokens;

/// The three calls, or the first of them.
pub(super) struct Gemm<'a> {
    name: String,
    strategy: Strategy,
    slots: &'a [Vec<Linear>],
    rank: usize,
    h: Array2<f16>,
}

impl<'a> Gemm<'a> {
    pub(super) fn new(name: String, strategy: Strategy, slots: &'a [Vec<Linear>], rank: usize) -> Gemm<'a> {
        Gemm { name, strategy, slots, rank, h: Array2::zeros((0, 0)) }
    }
}

impl Method for Gemm<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn computes(&self) -> Option<Strategy> {
        Some(self.strategy)
    }

    fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
        for (linear, tokens) in self.slots[slot].iter().zip(tokens) {
            let shape = (tokens.x.nrows(), linear.w.nrows());
            let mut y = ArrayViewMut2::from_shape(shape, &mut tokens.y).expect("y has M · N elements");
            product(y.view_mut(), Previous::Dropped, 1.0, &tokens.x.view(), &linear.w.view());
            if self.strategy == Strategy::Base {
                continue;
            }
            let lora = linear.adapter(self.rank);
            let h_shape = (tokens.x.nrows(), self.rank);
            if self.h.dim() != h_shape {
                self.h = Array2::zeros(h_shape);
            }
            product(self.h.view_mut(), Previous::Dropped, SCALE, &tokens.x.view(), &lora.a.view());
            product(y, Previous::Kept, 1.0, &self.h.view(), &lora.b.view());
        }
        Ok(())
    }
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

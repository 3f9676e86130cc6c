//! The crate `gemmkit`: f16 in and out with f32 sums, operands packed anew in each call.

use fused_lora_benches::linear::Library;
use fused_lora_benches::linear::cpu::Ground;
use fused_lora_benches::linear::weights::SCALE;
use fused_lora_benches::operands::{Layout, on_host};
use gemmkit::{MatMut, MatRef, Parallelism, Workspace, gemm_with};
use half::f16;
use ndarray::{Array2, ArrayView2};

use super::{library as named, matrices};

pub(super) fn library() -> Library<Ground> {
    named("gemmkit-f16", |ground, strategy, rank| {
        let slots = matrices(ground, strategy, rank);
        let (mut h, mut workspace, threads) = (Vec::new(), Workspace::new(), Parallelism::Rayon(0));
        on_host(&ground.operands, ground.cache, Layout::RowMajor, move |slot, tokens| {
            for (weights, tokens) in slots[slot].iter().zip(tokens) {
                let (x, m, n) = (tokens.x, tokens.x.nrows(), weights.w.nrows());
                let (one, w) = (f16::ONE, transposed(&weights.w));
                let y = MatMut::from_row_major(&mut *tokens.y, m, n);
                gemm_with(&mut workspace, one, matrix(&x), w, f16::ZERO, y, threads);
                let Some((a, b)) = &weights.adapter else { continue };
                h.resize(m * rank, f16::ZERO);
                let h_out = MatMut::from_row_major(&mut h, m, rank);
                let scale = f16::from_f32(SCALE);
                gemm_with(&mut workspace, scale, matrix(&x), transposed(a), f16::ZERO, h_out, threads);
                let y = MatMut::from_row_major(&mut *tokens.y, m, n);
                let h_in = MatRef::from_row_major(&h, m, rank);
                gemm_with(&mut workspace, one, h_in, transposed(b), one, y, threads);
            }
            Ok(())
        })
    })
}

/// x as it lies.
pub(super) fn matrix<'a>(x: &ArrayView2<'a, f16>) -> MatRef<'a, f16> {
    let (rows, columns) = x.dim();
    MatRef::from_row_major(x.to_slice().expect("operands are made in standard layout"), rows, columns)
}

/// The transpose of weights, without a copy.
pub(super) fn transposed(weights: &Array2<f16>) -> MatRef<'_, f16> {
    let (rows, columns) = weights.dim();
    let elements = weights.as_slice().expect("operands are made in standard layout");
    MatRef::from_col_major(elements, columns, rows)
}

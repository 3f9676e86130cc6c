//! The crate `gemmkit`: f16 in and out with f32 sums, operands packed anew in each call.

use fused_lora::Strategy;
use gemmkit::{MatMut, MatRef, Parallelism, Workspace, gemm_with};
use half::f16;
use ndarray::Array2;

use crate::method::Method;
use crate::model::{Linear, SCALE};
use crate::tokens::Tokens;

/// The three calls, or the first of them.
pub(super) struct Gemmkit<'a> {
    name: String,
    strategy: Strategy,
    slots: &'a [Vec<Linear>],
    rank: usize,
    h: Vec<f16>,
    workspace: Workspace,
}

impl<'a> Gemmkit<'a> {
    pub(super) fn new(
        name: String,
        strategy: Strategy,
        slots: &'a [Vec<Linear>],
        rank: usize,
    ) -> Gemmkit<'a> {
        Gemmkit { name, strategy, slots, rank, h: Vec::new(), workspace: Workspace::new() }
    }
}

impl Method for Gemmkit<'_> {
    fn name(&self) -> &str {
        &self.name
    }

    fn computes(&self) -> Option<Strategy> {
        Some(self.strategy)
    }

    fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
        let (workspace, threads) = (&mut self.workspace, Parallelism::Rayon(0));
        for (linear, Tokens { x, y, .. }) in self.slots[slot].iter().zip(tokens) {
            let ((m, _), n) = (x.dim(), linear.w.nrows());
            let y_view = MatMut::from_row_major(y, m, n);
            gemm_with(workspace, f16::ONE, matrix(x), transposed(&linear.w), f16::ZERO, y_view, threads);
            if self.strategy == Strategy::Base {
                continue;
            }
            let lora = linear.adapter(self.rank);
            self.h.resize(m * self.rank, f16::ZERO);
            let h_view = MatMut::from_row_major(&mut self.h, m, self.rank);
            gemm_with(
                workspace,
                f16::from_f32(SCALE),
                matrix(x),
                transposed(&lora.a),
                f16::ZERO,
                h_view,
                threads,
            );
            let (h_view, y_view) =
                (MatRef::from_row_major(&self.h, m, self.rank), MatMut::from_row_major(y, m, n));
            gemm_with(workspace, f16::ONE, h_view, transposed(&lora.b), f16::ONE, y_view, threads);
        }
        Ok(())
    }
}

/// A matrix as it lies.
pub(super) fn matrix(array: &Array2<f16>) -> MatRef<'_, f16> {
    let (rows, columns) = array.dim();
    MatRef::from_row_major(elements(array), rows, columns)
}

/// Its transpose, without a copy.
pub(super) fn transposed(array: &Array2<f16>) -> MatRef<'_, f16> {
    let (rows, columns) = array.dim();
    MatRef::from_col_major(elements(array), columns, rows)
}

fn elements(array: &Array2<f16>) -> &[f16] {
    array.as_slice().expect("operands are made in standard layout")
}

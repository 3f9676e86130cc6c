//! The crate `gemmkit` with W, A and B packed once.
//!
//! Its prepacked right operand demands an output in column order, so y is written as [N, M] in memory: what a
//! user of it would have to accept, and no disadvantage to it.

use fused_lora::Strategy;
use gemmkit::{MatMut, MatRef, PackedRhs, Parallelism, Workspace, gemm_packed_b_with, prepack_rhs};
use half::f16;

use super::gemmkit_f16::{matrix, transposed};
use crate::method::Method;
use crate::model::{Linear, SCALE};
use crate::tokens::{Layout, Tokens};

/// The three calls, or the first of them.
pub(super) struct Packed {
    name: String,
    strategy: Strategy,
    /// By slot and projection.
    slots: Vec<Vec<Weights>>,
    rank: usize,
    h: Vec<f16>,
    workspace: Workspace,
}

struct Weights {
    w: PackedRhs<f16>,
    /// A and B.
    adapter: Option<(PackedRhs<f16>, PackedRhs<f16>)>,
}

impl Packed {
    pub(super) fn new(name: String, strategy: Strategy, slots: &[Vec<Linear>], rank: usize) -> Packed {
        let pack = |linear: &Linear| Weights {
            w: prepack_rhs(transposed(&linear.w)),
            adapter: (strategy != Strategy::Base).then(|| {
                let lora = linear.adapter(rank);
                (prepack_rhs(transposed(&lora.a)), prepack_rhs(transposed(&lora.b)))
            }),
        };
        let slots = slots.iter().map(|slot| slot.iter().map(pack).collect()).collect();
        Packed { name, strategy, slots, rank, h: Vec::new(), workspace: Workspace::new() }
    }
}

impl Method for Packed {
    fn name(&self) -> &str {
        &self.name
    }

    fn computes(&self) -> Option<Strategy> {
        Some(self.strategy)
    }

    fn layout(&self) -> Layout {
        Layout::ColumnMajor
    }

    fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
        let (workspace, threads) = (&mut self.workspace, Parallelism::Rayon(0));
        for (weights, Tokens { x, y, .. }) in self.slots[slot].iter().zip(tokens) {
            let (m, n) = (x.nrows(), weights.w.cols());
            let y_view = MatMut::from_col_major(y, m, n);
            gemm_packed_b_with(workspace, f16::ONE, matrix(x), &weights.w, f16::ZERO, y_view, threads);
            let Some((a, b)) = &weights.adapter else { continue };
            self.h.resize(m * self.rank, f16::ZERO);
            let h_view = MatMut::from_col_major(&mut self.h, m, self.rank);
            gemm_packed_b_with(workspace, f16::from_f32(SCALE), matrix(x), a, f16::ZERO, h_view, threads);
            let (h_view, y_view) =
                (MatRef::from_col_major(&self.h, m, self.rank), MatMut::from_col_major(y, m, n));
            gemm_packed_b_with(workspace, f16::ONE, h_view, b, f16::ONE, y_view, threads);
        }
        Ok(())
    }
}

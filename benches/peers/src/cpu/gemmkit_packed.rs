//! The crate `gemmkit` with W, A and B packed once.
//!
//! Its prepacked right operand demands an output in column order, so y is written as [N, M] in memory: what a
//! user of it would have to accept, and no disadvantage to it.

use std::cell::RefCell;
use std::rc::Rc;

use fused_lora_benches::linear::Library;
use fused_lora_benches::linear::cpu::Ground;
use fused_lora_benches::linear::weights::SCALE;
use fused_lora_benches::operands::{Layout, on_host};
use gemmkit::{MatMut, MatRef, PackedRhs, Parallelism, Workspace, gemm_packed_b_with, prepack_rhs};
use half::f16;

use super::gemmkit_f16::{matrix, transposed};
use super::{Matrices, library as named, matrices};

type Packed = Rc<PackedRhs<f16>>;

/// One projection.
struct Weights {
    w: Packed,
    /// A and B.
    adapter: Option<(Packed, Packed)>,
}

pub(super) fn library() -> Library<Ground> {
    // W by slot and projection: one for the base and all ranks.
    let packed: RefCell<Vec<Vec<Packed>>> = RefCell::default();
    named("gemmkit-f16-packed", move |ground, strategy, rank| {
        let slots = matrices(ground, strategy, rank);
        let mut packed = packed.borrow_mut();
        for slot in &slots[packed.len().min(slots.len())..] {
            packed.push(slot.iter().map(|weights| Rc::new(prepack_rhs(transposed(&weights.w)))).collect());
        }
        let of = |(weights, w): (&Matrices, &Packed)| Weights {
            w: Rc::clone(w),
            adapter: weights
                .adapter
                .as_ref()
                .map(|(a, b)| (Rc::new(prepack_rhs(transposed(a))), Rc::new(prepack_rhs(transposed(b))))),
        };
        let slots: Vec<Vec<Weights>> =
            slots.iter().zip(&*packed).map(|(slot, w)| slot.iter().zip(w).map(of).collect()).collect();
        let (mut h, mut workspace, threads) = (Vec::new(), Workspace::new(), Parallelism::Rayon(0));
        on_host(&ground.operands, ground.cache, Layout::ColumnMajor, move |slot, tokens| {
            for (weights, tokens) in slots[slot].iter().zip(tokens) {
                let (x, m, n) = (tokens.x, tokens.x.nrows(), weights.w.cols());
                let (one, workspace) = (f16::ONE, &mut workspace);
                let y = MatMut::from_col_major(&mut *tokens.y, m, n);
                gemm_packed_b_with(workspace, one, matrix(&x), &weights.w, f16::ZERO, y, threads);
                let Some((a, b)) = &weights.adapter else { continue };
                h.resize(m * rank, f16::ZERO);
                let h_out = MatMut::from_col_major(&mut h, m, rank);
                let scale = f16::from_f32(SCALE);
                gemm_packed_b_with(workspace, scale, matrix(&x), a, f16::ZERO, h_out, threads);
                let y = MatMut::from_col_major(&mut *tokens.y, m, n);
                let h_in = MatRef::from_col_major(&h, m, rank);
                gemm_packed_b_with(workspace, one, h_in, b, one, y, threads);
            }
            Ok(())
        })
    })
}

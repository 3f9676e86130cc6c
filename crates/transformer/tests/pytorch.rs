//! The layer and each kind of adapter on the CPU against PyTorch, stage by stage.

mod common;

use common::{Case, SEQ_LEN, Worst};
use fused_lora::cpu::Simd;
use fused_lora_transformer::cpu::Workspace;
use half::f16;
use ndarray::Array2;

#[test]
fn every_stage_of_every_method_agrees_with_pytorch() {
    let case = Case::read();
    let x = case.matrix("x");
    let mut worst = Worst::default();
    for simd in Simd::available() {
        worst.hold_all(&case, simd.name(), &simd, |layer, observe| {
            let mut y = Array2::from_elem(x.dim(), f16::NAN);
            let mut workspace = Workspace::new();
            layer.forward_observed(x.view(), SEQ_LEN, y.view_mut(), &mut workspace, &(), observe)?;
            Ok(y)
        });
    }
    worst.is_near_the_tolerance();
}

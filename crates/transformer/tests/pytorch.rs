//! The layer and each kind of adapter on the CPU against PyTorch, stage by stage.

mod common;

use std::collections::HashMap;

use common::{CONFIG, Case, SEQ_LEN, STAGES, Worst, name};
use fused_lora::cpu::Simd;
use fused_lora_transformer::cpu::{Layer, Workspace};
use half::f16;
use ndarray::Array2;

#[test]
fn every_stage_of_every_method_agrees_with_pytorch() {
    let case = Case::read();
    let x = case.matrix("x");
    let mut worst = Worst::default();
    for simd in Simd::available() {
        let base = Layer::with_simd(simd, CONFIG, &case.base()).unwrap();
        // One layer that is given each method in turn: nothing of the one before may stay.
        let mut layer = base.clone();
        for (method, adapters) in case.methods() {
            layer = layer.with_adapters(&adapters).unwrap();
            let mut y = Array2::from_elem(x.dim(), f16::NAN);
            let mut found = HashMap::new();
            let mut workspace = Workspace::new();
            layer
                .forward_observed(x.view(), SEQ_LEN, y.view_mut(), &mut workspace, |stage, value| {
                    assert!(found.insert(name(stage), value.to_owned()).is_none(), "{stage:?} twice");
                })
                .unwrap();
            found.insert("output", y);
            for stage in STAGES {
                worst.hold(&case, simd.name(), method, stage, found[stage].view());
            }
        }
    }
    worst.is_near_the_tolerance();
}

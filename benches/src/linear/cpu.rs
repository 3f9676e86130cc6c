//! The linear layers on the CPU.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora::cpu::{Adapter, Layer, Simd, Workspace};
use fused_lora_records::Workload;
use half::f16;
use ndarray::ArrayView2;

use super::weights::{Engine, Weights};
use super::{Library, expected, methods, rotating_bytes, widths};
use crate::check::Expected;
use crate::method::{Call, Method, What};
use crate::normals::Normals;
use crate::operands::{Layout, Operands, on_host};
use crate::probes::{self, Memory};
use crate::ring;
use crate::settings::Cache;
use crate::size::Size;
use crate::suite::Suite;

const SEED: u64 = 2;

impl Engine for Simd {
    type Layer = Layer;

    fn layer(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<Layer> {
        Ok(Layer::with_simd(*self, w)?)
    }

    fn with_adapter(
        &self,
        layer: Layer,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> anyhow::Result<Layer> {
        Ok(layer.with_adapter(Adapter::with_simd(*self, a, b, scale)?)?)
    }
}

/// What a library computes on.
pub struct Ground {
    /// Weights, of which the first [`weight_slots`](Ground::weight_slots) are used.
    pub weights: Weights<Simd>,
    /// x and y.
    pub operands: Rc<RefCell<Operands>>,
    /// State of the caches.
    pub cache: Cache,
    /// One where weights stay warm, else as many as slots of x and y.
    pub weight_slots: usize,
}

/// The workload on this host.
pub struct Cpu {
    workload: &'static Workload,
    simd: Simd,
    ground: Ground,
    normals: Normals,
    libraries: Vec<Library<Ground>>,
    memory: Memory,
}

/// This library's strategies beside its base, as the grid measures them.
#[must_use]
pub fn ours(_: usize) -> &'static [Strategy] {
    &[Strategy::Unfused, Strategy::Fused]
}

/// What another library computes: its base product, and at a rank its three calls.
#[must_use]
pub fn theirs(rank: usize) -> &'static [Strategy] {
    if rank == 0 { &[Strategy::Base] } else { &[Strategy::Unfused] }
}

/// This library; `strategies` are those beside its base, and `prefix` stands before their names in the records.
#[must_use]
pub fn this_library(prefix: &'static str, strategies: fn(usize) -> &'static [Strategy]) -> Library<Ground> {
    Library {
        name: Box::new(move |strategy| format!("{prefix}{strategy}")),
        strategies,
        make: Box::new(|ground, strategy, rank| {
            let layers = ground.weights.layers(ground.weight_slots, rank);
            let mut workspace = Workspace::new();
            Ok(on_host(&ground.operands, ground.cache, Layout::RowMajor, move |slot, tokens| {
                for (layer, tokens) in layers[slot].iter().zip(tokens) {
                    layer.forward_with(strategy, tokens.x, tokens.y_rows(), &mut workspace)?;
                }
                Ok(())
            }))
        }),
    }
}

impl Cpu {
    /// The workload with a SIMD level, computed by those libraries; the first is this one. `last_level_cache` is in bytes.
    #[must_use]
    pub fn new(
        workload: &'static Workload,
        cache: Cache,
        simd: Simd,
        last_level_cache: usize,
        libraries: Vec<Library<Ground>>,
    ) -> Cpu {
        let ground =
            Ground { weights: Weights::new(workload, simd), operands: Rc::default(), cache, weight_slots: 1 };
        let memory = Memory::new(last_level_cache);
        Cpu { workload, simd, ground, normals: Normals::new(SEED), libraries, memory }
    }
}

impl Suite for Cpu {
    fn methods(&self, size: Size) -> Vec<Method> {
        let Cpu { workload, simd, ground, libraries, .. } = self;
        let mut methods = methods(workload, ground.cache, simd.granule(), libraries, size);
        methods.extend(probes::methods(workload.flops_base(size.m())));
        methods
    }

    fn slots(&self, size: Size, distance: usize) -> usize {
        ring::slots(rotating_bytes(self.workload, size.m(), self.ground.cache), distance)
    }

    fn prepare(
        &mut self,
        size: Size,
        slots: usize,
        methods: &[Method],
    ) -> anyhow::Result<Vec<Box<dyn Call>>> {
        let Cpu { workload, ground, normals, libraries, memory, .. } = self;
        ground.weight_slots = if ground.cache == Cache::Cold { slots } else { 1 };
        for rank in methods.iter().map(|method| method.rank).collect::<BTreeSet<_>>() {
            ground.weights.ensure(ground.weight_slots, rank)?;
        }
        let fill = |x: &mut [f16]| normals.fill(1.0, x);
        ground.operands.borrow_mut().resize(size.m(), &widths(workload), slots, fill);
        let ready = |method: &Method| match method.what {
            What::Linear(library, strategy) => (libraries[library].make)(ground, strategy, method.rank),
            What::Probe(probe) => Ok(memory.probe(probe, workload.flops_base(size.m()))),
            What::Layer(_) | What::Torch(..) => anyhow::bail!("{} is no linear layer", method.names[0]),
        };
        methods.iter().map(ready).collect()
    }

    fn expected(&mut self, _: Size, method: &Method) -> anyhow::Result<Vec<Expected>> {
        let What::Linear(_, strategy) = method.what else { return Ok(Vec::new()) };
        let mut operands = self.ground.operands.borrow_mut();
        let first = &self.ground.weights.slots(1)[0];
        let of = |(linear, x): (&super::weights::Linear<Layer>, ArrayView2<'_, f16>)| {
            Ok(expected(x, linear.w.view(), Some(linear.adapter(method.rank).view()), strategy)?)
        };
        first.iter().zip(operands.tokens(0).iter().map(|tokens| tokens.x)).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Wrong, check};

    const SIZE: Size = Size { seq_len: 20, batch: 2 };

    fn cpu(cache: Cache) -> Cpu {
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        Cpu::new(workload, cache, Simd::detect().unwrap(), 0, vec![this_library("", ours)])
    }

    #[test]
    fn every_method_is_right_on_its_own_operands_alone() {
        let mut cpu = cpu(Cache::Cold);
        let methods = cpu.methods(SIZE);
        let mut calls = cpu.prepare(SIZE, 2, &methods).unwrap();
        for (method, call) in methods.iter().zip(&mut calls) {
            if method.is_probe() {
                call.call(0).unwrap();
                continue;
            }
            let expected = cpu.expected(SIZE, method).unwrap();
            check(method, &mut **call, &expected).unwrap_or_else(|error| panic!("{error}"));
            // The second slot has other weights and another x.
            call.poison().unwrap();
            call.call(1).unwrap();
            assert_eq!(call.output().unwrap()[0].missing(), 40 * 3072, "that was another y");
        }
        // The base is not taken for the whole, nor one rank for another.
        let fused = methods.iter().position(|method| method.ids[0] == "r100/fused").unwrap();
        let expected = cpu.expected(SIZE, &methods[fused]).unwrap();
        for other in [0, fused - 2] {
            let error = check(&methods[other], &mut *calls[other], &expected).unwrap_err();
            assert!(
                matches!(error, Wrong::Mismatch { deviation, .. } if deviation.element > 10.0 && deviation.norm > 10.0),
                "{error}"
            );
        }
    }

    #[test]
    fn warm_weights_are_those_of_one_slot() {
        let mut cpu = cpu(Cache::WarmW);
        let methods = cpu.methods(SIZE);
        let (warm, cold) = (cpu.slots(SIZE, 32 << 20), self::cpu(Cache::Cold).slots(SIZE, 32 << 20));
        assert!(warm > 20 && cold < 4, "{warm} {cold}");
        let mut calls = cpu.prepare(SIZE, 3, &methods[..1]).unwrap();
        assert_eq!(cpu.ground.weight_slots, 1);
        calls[0].call(2).unwrap();
    }
}

//! The linear layers on a GPU.

use std::collections::BTreeSet;
use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora::cuda::{Adapter, Layer, Workspace};
use fused_lora_records::Workload;
use half::f16;
use ndarray::ArrayView2;

use super::weights::{Engine, Linear, Weights};
use super::{Library, expected, methods, rotating_bytes, widths};
use crate::check::Expected;
use crate::cuda::captured::{Captured, capture};
use crate::cuda::{Gpu, Operands, passes};
use crate::method::{Call, Method, What};
use crate::normals::Normals;
use crate::settings::Cache;
use crate::size::Size;
use crate::suite::Suite;

const SEED: u64 = 2;

impl Engine for Gpu {
    type Layer = Layer;

    fn layer(&self, w: ArrayView2<'_, f16>) -> anyhow::Result<Layer> {
        Ok(Layer::new(&self.device, w)?)
    }

    /// Rank 0 is no adapter: its strategies take the base path.
    fn with_adapter(
        &self,
        layer: Layer,
        a: ArrayView2<'_, f16>,
        b: ArrayView2<'_, f16>,
        scale: f32,
    ) -> anyhow::Result<Layer> {
        Ok(layer.with_adapter(Adapter::new(&self.device, a, b, scale)?)?)
    }
}

/// What a library computes on.
pub struct Ground {
    /// The device.
    pub gpu: Gpu,
    /// Weights, of which the first [`weight_slots`](Ground::weight_slots) are used.
    pub weights: Weights<Gpu>,
    /// x and y.
    pub operands: Rc<Operands>,
    /// One where weights stay warm, else as many as slots of x and y.
    pub weight_slots: usize,
    /// Forward passes of a call: round and round over all slots, from the first on.
    pub passes: usize,
}

/// The workload on a GPU.
pub struct Cuda {
    workload: &'static Workload,
    cache: Cache,
    ground: Ground,
    libraries: Vec<Library<Ground>>,
    /// x of the first slot's products: what the reference sees.
    first: Vec<f16>,
}

/// This library; `strategies` are those beside its base, and `prefix` stands before their names in the records.
#[must_use]
pub fn this_library(prefix: &'static str, strategies: fn(usize) -> &'static [Strategy]) -> Library<Ground> {
    Library {
        name: Box::new(move |strategy| format!("{prefix}{strategy}")),
        strategies,
        make: Box::new(captured),
    }
}

fn captured(ground: &Ground, strategy: Strategy, rank: usize) -> anyhow::Result<Box<dyn Call>> {
    let Ground { gpu, weights, operands, weight_slots, passes } = ground;
    let layers = weights.layers(*weight_slots, rank);
    let bytes = layers.iter().flatten().map(|layer| layer.workspace_size(operands.m())).max().unwrap_or(0);
    let mut workspace = Workspace::new(&gpu.device, bytes)?;
    let graph = capture(&gpu.stream, *passes, operands.slots(), |slot, stream| {
        let layers = &layers[slot % layers.len()];
        operands.each(slot, |product, x, y| {
            Ok(layers[product].forward_with(strategy, x, y, &mut workspace, stream)?)
        })
    })?;
    // SAFETY: the passes use the operands, the layers' weights, and the workspace, which is in no other graph.
    Ok(Box::new(unsafe { Captured::new(gpu, operands, *passes, graph, Box::new((layers, workspace)))? }))
}

impl Cuda {
    /// The workload on that device, computed by those libraries; the first is this one.
    #[must_use]
    pub fn new(workload: &'static Workload, cache: Cache, gpu: Gpu, libraries: Vec<Library<Ground>>) -> Cuda {
        let ground = Ground {
            weights: Weights::new(workload, gpu.clone()),
            operands: Rc::new(Operands::new(0, &[])),
            gpu,
            weight_slots: 1,
            passes: 1,
        };
        Cuda { workload, cache, ground, libraries, first: Vec::new() }
    }
}

impl Suite for Cuda {
    fn methods(&self, size: Size) -> Vec<Method> {
        let granule = self.ground.gpu.machine().granule;
        methods(self.workload, self.cache, granule, &self.libraries, size)
    }

    fn slots(&self, size: Size, distance: usize) -> usize {
        crate::ring::slots(rotating_bytes(self.workload, size.m(), self.cache), distance)
    }

    fn prepare(
        &mut self,
        size: Size,
        slots: usize,
        methods: &[Method],
    ) -> anyhow::Result<Vec<Box<dyn Call>>> {
        let Cuda { workload, cache, ground, libraries, first } = self;
        ground.passes = passes(slots, workload.flops_base(size.m()), ground.gpu.peak_flops());
        ground.weight_slots = if *cache == Cache::Cold { slots } else { 1 };
        for rank in methods.iter().map(|method| method.rank).collect::<BTreeSet<_>>() {
            ground.weights.ensure(ground.weight_slots, rank)?;
        }
        let (widths, mut normals) = (widths(workload), Normals::new(SEED));
        // The last size's go first.
        ground.operands = Rc::new(Operands::new(0, &[]));
        let mut operands = Operands::new(size.m(), &widths);
        let mut x = vec![f16::ZERO; size.m() * widths.iter().map(|&(k, _)| k).sum::<usize>()];
        for slot in 0..slots {
            normals.fill(1.0, &mut x);
            operands.push(&ground.gpu.device, &x)?;
            if slot == 0 {
                first.clone_from(&x);
            }
        }
        ground.operands = Rc::new(operands);
        let ready = |method: &Method| match method.what {
            What::Linear(library, strategy) => (libraries[library].make)(ground, strategy, method.rank),
            _ => anyhow::bail!("{} is no linear layer", method.names[0]),
        };
        methods.iter().map(ready).collect()
    }

    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Vec<Expected>> {
        let What::Linear(_, strategy) = method.what else { return Ok(Vec::new()) };
        let mut x = &self.first[..];
        let mut of = |linear: &Linear<Layer>| {
            let k = linear.w.ncols();
            let (own, rest) = x.split_at(size.m() * k);
            x = rest;
            let own = ArrayView2::from_shape((size.m(), k), own)?;
            Ok(expected(own, linear.w.view(), Some(linear.adapter(method.rank).view()), strategy)?)
        };
        self.ground.weights.slots(1)[0].iter().map(&mut of).collect()
    }

    fn clock_mhz(&self) -> Option<f64> {
        self.ground.gpu.clock.mhz()
    }

    fn preamble(&self) -> anyhow::Result<Option<String>> {
        Ok(Some(self.ground.gpu.overhead()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Wrong, check};
    use crate::linear::cpu::ours;
    use crate::testing::gpu;

    const SIZE: Size = Size { seq_len: 4, batch: 2 };

    fn cuda(gpu: &Gpu, cache: Cache) -> Cuda {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        Cuda::new(workload, cache, gpu.clone(), vec![this_library("", ours)])
    }

    #[test]
    fn strategies_are_right_and_no_other_passes_for_them() {
        let Some(gpu) = gpu() else { return };
        let mut cuda = cuda(&gpu, Cache::Cold);
        let mut methods = cuda.methods(SIZE);
        methods.retain(|method| method.rank <= 10);
        let mut calls = cuda.prepare(SIZE, 1, &methods).unwrap();
        assert_eq!(calls.len(), 5);
        for (method, call) in methods.iter().zip(&mut calls) {
            let expected = cuda.expected(SIZE, method).unwrap();
            check(method, &mut **call, &expected).unwrap_or_else(|error| panic!("{error}"));
            assert!(call.call(0).unwrap().wall > 0.0);
        }
        let of_rank_10 = cuda.expected(SIZE, &methods[4]).unwrap();
        let error = check(&methods[0], &mut *calls[0], &of_rank_10).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { .. }), "{error}");
    }

    /// Each slot's x with that slot's weights, or with the first one's where they stay warm.
    #[test]
    fn a_call_goes_round_the_whole_ring() {
        let Some(gpu) = gpu() else { return };
        for (cache, weights) in [(Cache::Cold, 2), (Cache::WarmW, 1)] {
            let mut cuda = cuda(&gpu, cache);
            let methods = &cuda.methods(SIZE)[..1];
            let mut calls = cuda.prepare(SIZE, 2, methods).unwrap();
            assert_eq!((cuda.ground.weight_slots, cuda.ground.passes % 2), (weights, 0));
            calls[0].call(0).unwrap();
            let seen: Vec<_> =
                (0..2).map(|slot| cuda.ground.operands.read(slot).unwrap().remove(0).0).collect();
            assert!(seen.iter().flatten().all(|y| y.is_finite()), "a slot was not written");
            assert_ne!(seen[0], seen[1], "a slot has the x of another");
        }
    }

    #[test]
    fn a_graph_that_computes_nothing_is_not_timed() {
        let Some(gpu) = gpu() else { return };
        let mut cuda = cuda(&gpu, Cache::Cold);
        let methods = &cuda.methods(SIZE)[..1];
        drop(cuda.prepare(SIZE, 1, methods).unwrap());
        cuda.ground.passes = 0;
        let mut empty = captured(&cuda.ground, Strategy::Base, 0).unwrap();
        let expected = cuda.expected(SIZE, &methods[0]).unwrap();
        let error = check(&methods[0], &mut *empty, &expected).unwrap_err();
        assert!(matches!(error, Wrong::NotWritten { missing: 8192, .. }), "{error}");
    }
}

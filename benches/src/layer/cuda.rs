//! The layer on a GPU.

use std::rc::Rc;

use fused_lora_records::SEQ_LENS;
use fused_lora_transformer::cuda::{Layer, Model, Workspace};
use fused_lora_transformer::{Config, Targets};
use half::f16;

use super::models::Models;
use super::sequences::Sequences;
use super::variant::Variant;
use super::weights::Weights;
use super::{References, methods, rotating_bytes};
use crate::check::Expected;
use crate::cuda::captured::{Captured, capture};
use crate::cuda::{Gpu, Operands, passes};
use crate::method::{Call, Method, What};
use crate::settings::Cache;
use crate::size::Size;
use crate::suite::Suite;

/// The layer on a device.
pub struct Cuda {
    gpu: Gpu,
    config: Config,
    targets: Targets,
    cache: Cache,
    weights: Weights,
    sequences: Sequences,
    references: References,
    models: Models<Model>,
}

impl Cuda {
    /// With nothing made yet.
    ///
    /// # Errors
    ///
    /// If there can be no such model.
    pub fn new(gpu: Gpu, config: Config, targets: Targets, cache: Cache) -> anyhow::Result<Cuda> {
        let longest = SEQ_LENS.into_iter().max().unwrap_or(1);
        Ok(Cuda {
            weights: Weights::new(config)?,
            sequences: Sequences::new(longest, config.d),
            references: References::default(),
            models: Models::new(),
            gpu,
            config,
            targets,
            cache,
        })
    }

    /// The model of a variant in each of the first slots.
    fn models(&mut self, variant: Variant, slots: usize) -> anyhow::Result<Vec<Rc<Model>>> {
        let Cuda { gpu, config, weights, models, .. } = self;
        weights.ensure(variant)?;
        let bare = || {
            let layers = weights.layers().iter().map(|layer| Layer::new(&gpu.device, *config, layer));
            Ok(Model::new(*config, layers.collect::<Result<_, _>>()?)?)
        };
        models.of(variant, slots, bare, |bare| Ok(bare.with_adapters(&weights.adapters(variant))?))
    }
}

impl Suite for Cuda {
    fn methods(&self, size: Size) -> Vec<Method> {
        methods(&self.config, self.targets, self.cache, self.gpu.machine().granule, size, false)
    }

    fn slots(&self, size: Size, distance: usize) -> usize {
        crate::ring::slots(rotating_bytes(&self.config, size.m(), self.cache), distance)
    }

    fn prepare(
        &mut self,
        size: Size,
        slots: usize,
        methods: &[Method],
    ) -> anyhow::Result<Vec<Box<dyn Call>>> {
        let (gpu, d) = (self.gpu.clone(), self.config.d);
        let flops = Variant::NONE.flops(&self.config, size.m(), size.seq_len);
        let passes = passes(slots, flops, gpu.peak_flops());
        let mut operands = Operands::new(size.m(), &[(d, d)]);
        let mut x = vec![f16::ZERO; size.m() * d];
        self.sequences.batch(size.seq_len, &mut x);
        for _ in 0..slots {
            operands.push(&gpu.device, &x)?;
        }
        let operands = Rc::new(operands);
        let mut calls: Vec<Box<dyn Call>> = Vec::new();
        for method in methods {
            let What::Layer(variant) = method.what else {
                anyhow::bail!("{} is no layer of a transformer", method.names[0]);
            };
            let models = self.models(variant, if self.cache == Cache::Cold { slots } else { 1 })?;
            let mut workspace = Workspace::new(&gpu.device, self.config, size.m(), variant.rank)?;
            let graph = capture(&gpu.stream, passes, slots, |slot, stream| {
                operands.each(slot, |_, x, y| {
                    let model = &models[slot % models.len()];
                    Ok(model.forward(x, size.seq_len, y, &mut workspace, stream)?)
                })
            })?;
            // SAFETY: the passes use the operands, the models' weights, and the workspace, which is in no other graph.
            let call =
                unsafe { Captured::new(&gpu, &operands, passes, graph, Box::new((models, workspace)))? };
            calls.push(Box::new(call));
        }
        Ok(calls)
    }

    fn expected(&mut self, size: Size, method: &Method) -> anyhow::Result<Vec<Expected>> {
        let What::Layer(variant) = method.what else { return Ok(Vec::new()) };
        Ok(vec![self.references.expected(size, variant, &self.weights, &self.sequences)])
    }

    fn clock_mhz(&self) -> Option<f64> {
        self.gpu.clock.mhz()
    }

    fn preamble(&self) -> anyhow::Result<Option<String>> {
        Ok(Some(self.gpu.overhead()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::check;
    use crate::testing::gpu;

    const CONFIG: Config = Config { d: 32, heads: 2, mlp: 64, layers: 2 };
    const SIZE: Size = Size { seq_len: 4, batch: 3 };

    /// Every method is one graph and right; another method's y is wrong.
    #[test]
    fn every_method_is_one_graph_and_right() {
        let Some(gpu) = gpu() else { return };
        for (cache, targets) in [(Cache::Cold, Targets::All), (Cache::WarmW, Targets::QueryValue)] {
            let mut cuda = Cuda::new(gpu.clone(), CONFIG, targets, cache).unwrap();
            let mut methods = cuda.methods(SIZE);
            methods.retain(|method| method.rank <= 10);
            let mut calls = cuda.prepare(SIZE, 1, &methods).unwrap();
            for (i, method) in methods.iter().enumerate() {
                let expected = cuda.expected(SIZE, method).unwrap();
                check(method, &mut *calls[i], &expected).unwrap_or_else(|error| panic!("{error}"));
                let other = if method.rank == 0 { methods.len() - 1 } else { 0 };
                check(method, &mut *calls[other], &expected).expect_err("that is another method's y");
            }
        }
    }
}

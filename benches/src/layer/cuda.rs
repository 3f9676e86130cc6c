//! The layer on a GPU: each variant one CUDA graph of many forward passes, by the device's own clock.

use std::time::Duration;

use anyhow::Context as _;
use fused_lora::cuda::{Buffer, Event, Graph, Matrix, MatrixMut};
use fused_lora_transformer::cuda::{Layer, Model, Workspace};
use fused_lora_transformer::{Config, Error};
use half::f16;
use ndarray::ArrayView2;

use super::backend::{Backend, rotating_bytes};
use super::models::Models;
use super::sequences::Sequences;
use super::size::Size;
use super::variant::Variant;
use super::weights::Weights;
use crate::cuda::{Gpu, Span};
use crate::engine::COLD;
use crate::settings::Cache;

/// Models, tokens and graphs in the memory of a device.
pub struct Cuda {
    gpu: Gpu,
    cache: Cache,
    /// Bytes to be touched between two uses of a slot.
    distance: usize,
    span: Span,
    // Before what they refer to: fields are dropped in this order.
    graphs: Vec<Graph>,
    /// Of the graphs; made anew for each size.
    _workspace: Option<Workspace>,
    /// By slot, each in memory of its own.
    models: Vec<Models<Model>>,
    tokens: Vec<Tokens>,
    start: Event,
    stop: Event,
    /// y of a slot.
    shape: (usize, usize),
}

/// x and y: [M, d].
struct Tokens {
    x: Buffer,
    y: Buffer,
}

impl Cuda {
    /// With nothing on it. `last_level_cache` is that of the device, or 0 for a rehearsal, which measures nothing.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn new(gpu: Gpu, cache: Cache, last_level_cache: usize) -> anyhow::Result<Cuda> {
        let event = || Event::new(&gpu.device);
        Ok(Cuda {
            cache,
            distance: COLD * last_level_cache,
            span: Span::of_pass(1, 1.0, 0, 1.0),
            graphs: Vec::new(),
            _workspace: None,
            models: Vec::new(),
            tokens: Vec::new(),
            start: event()?,
            stop: event()?,
            shape: (0, 0),
            gpu,
        })
    }

    fn bare(&self, weights: &Weights) -> Result<Model, Error> {
        let config = weights.config();
        let layers = weights.layers().iter().map(|layer| Layer::new(&self.gpu.device, config, layer));
        Model::new(config, layers.collect::<Result<_, _>>()?)
    }

    /// All passes of a variant, round and round over the slots.
    fn capture(
        &mut self,
        variant: Variant,
        size: Size,
        d: usize,
        workspace: &mut Workspace,
    ) -> Result<Graph, Error> {
        let Cuda { gpu, span, models, tokens, .. } = self;
        Graph::capture_with(&gpu.stream, |stream| {
            (0..span.passes()).try_for_each(|pass| {
                let slot = pass % span.slots();
                let Tokens { x, y } = &mut tokens[slot];
                let (x, y) = (Matrix::new(x, size.m(), d)?, MatrixMut::new(y, size.m(), d)?);
                // With warm weights there is one model.
                models[slot % models.len()].get(variant).forward(x, size.seq_len, y, workspace, stream)
            })
        })
    }
}

impl Backend for Cuda {
    fn passes(&self, size: Size, config: Config) -> usize {
        span(&self.gpu, self.distance, self.cache, size, config).passes()
    }

    fn furnish(
        &mut self,
        size: Size,
        variants: &[Variant],
        weights: &Weights,
        sequences: &Sequences,
    ) -> anyhow::Result<()> {
        let config = weights.config();
        // The last size's go first.
        self.graphs.clear();
        self._workspace = None;
        self.tokens.clear();
        self.span = span(&self.gpu, self.distance, self.cache, size, config);
        let models = if self.cache == Cache::Cold { self.span.slots() } else { 1 };
        self.models.truncate(models);
        while self.models.len() < models {
            self.models.push(Models::new(self.bare(weights)?));
        }
        for models in &mut self.models {
            models.ensure(variants, |bare, variant| bare.with_adapters(&weights.adapters(variant)))?;
        }
        let x = sequences.batch(size);
        let x = x.as_slice().context("x is one row after another")?;
        for _ in 0..self.span.slots() {
            self.tokens.push(Tokens {
                x: Buffer::from_slice(&self.gpu.device, x)?,
                y: Buffer::poisoned(&self.gpu.device, x.len())?,
            });
        }
        let rank = variants.iter().map(|variant| variant.rank).max().unwrap_or(0);
        let mut workspace = Workspace::new(&self.gpu.device, config, size.m(), rank)?;
        self.graphs = variants
            .iter()
            .map(|&variant| self.capture(variant, size, config.d, &mut workspace))
            .collect::<Result<_, _>>()?;
        self._workspace = Some(workspace);
        self.shape = (size.m(), config.d);
        Ok(())
    }

    fn call(&mut self, place: usize) -> anyhow::Result<Duration> {
        let stream = &self.gpu.stream;
        self.start.record(stream)?;
        // SAFETY: models, tokens and workspace are this backend's own and let go after the graphs alone; all graphs
        // are launched on the one stream, so that no two of them use the workspace at once.
        unsafe { self.graphs[place].launch(stream)? };
        self.stop.record(stream)?;
        self.gpu.clock.sample();
        self.stop.synchronize()?;
        let seconds = self.stop.seconds_since(&self.start)? / self.span.passes() as f64;
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| !time.is_zero())
            .with_context(|| format!("the device says that a pass took {seconds} s"))
    }

    /// That of the last slot, which the last pass has written.
    fn inspect(
        &mut self,
        check: &mut dyn FnMut(ArrayView2<'_, f16>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Tokens { y, .. } = self.tokens.last_mut().context("nothing was furnished")?;
        let values = y.to_vec()?;
        let result = check(ArrayView2::from_shape(self.shape, &values)?);
        y.fill(f16::NAN, &self.gpu.stream)?;
        result
    }
}

fn span(gpu: &Gpu, distance: usize, cache: Cache, size: Size, config: Config) -> Span {
    let flops = Variant::NONE.flops(&config, size.m(), size.seq_len);
    Span::of_pass(rotating_bytes(config, size.m(), cache), flops, distance, gpu.peak_flops())
}

#[cfg(test)]
mod tests {
    use fused_lora::cuda::Error as CudaError;
    use fused_lora_transformer::{Method, Targets};

    use super::*;
    use crate::layer::check::References;

    const CONFIG: Config = Config { d: 32, heads: 2, mlp: 64, layers: 2 };
    const SIZE: Size = Size { seq_len: 4, batch: 3 };

    /// The first device; None, and a line that says why, where there is none. A simulated one will do.
    fn gpu() -> Option<Gpu> {
        match Gpu::open(0) {
            Ok(gpu) => Some(gpu),
            Err(error @ (CudaError::NoDriver(_) | CudaError::NoDevice)) => {
                eprintln!("skipped: {error}");
                None
            }
            Err(error) => panic!("there is a driver, but {error}"),
        }
    }

    /// Every method is right in the last slot of its call, and poisoned when it was looked at; another method's y is wrong.
    #[test]
    fn every_method_is_one_graph_and_right() {
        let Some(gpu) = gpu() else { return };
        let mut variants = vec![Variant::NONE];
        for targets in Targets::ALL {
            let of = |method| Variant { method, targets, rank: 5 };
            variants
                .extend([Method::AdapterH, Method::AdapterL, Method::LoraUnfused, Method::LoraFused].map(of));
        }
        let mut weights = Weights::new(CONFIG).unwrap();
        variants.iter().for_each(|&variant| weights.ensure(variant).unwrap());
        let sequences = Sequences::new(SIZE.seq_len, CONFIG.d);
        let mut references = References::new(CONFIG.layers);
        references.ensure(SIZE.seq_len, variants.iter().copied(), &weights, &sequences);
        for cache in [Cache::Cold, Cache::WarmW] {
            let mut cuda = Cuda::new(gpu.clone(), cache, 0).unwrap();
            cuda.furnish(SIZE, &variants, &weights, &sequences).unwrap();
            assert_eq!(cuda.passes(SIZE, CONFIG), 1, "a rehearsal");
            for (place, &variant) in variants.iter().enumerate() {
                let check = |cuda: &mut Cuda, variant: Variant| {
                    let name = variant.name();
                    cuda.inspect(&mut |y| Ok(references.check(&name, SIZE, variant, y)?))
                };
                assert!(!cuda.call(place).unwrap().is_zero());
                check(&mut cuda, variant).unwrap();
                check(&mut cuda, variant).expect_err("y is poisoned when it was looked at");
                cuda.call(place).unwrap();
                let other = if variant == Variant::NONE { variants[1] } else { Variant::NONE };
                check(&mut cuda, other).expect_err("that is another method's y");
            }
        }
    }
}

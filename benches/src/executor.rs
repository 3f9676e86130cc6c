//! What the suites need of a backend, whatever the workload.

use std::rc::Rc;

use anyhow::Context as _;
use fused_lora::{Granule, Strategy};
use fused_lora_transformer::{Backend, Model};
use half::f16;

use crate::layer::weights::Weights as LayerWeights;
use crate::linear::weights::{Packer, Weights as LinearWeights};
use crate::method::{Call, Method, Probe, Ready};
use crate::probes::Probes;
use crate::settings::Cache;

/// Who computes.
pub trait Executor: Packer + Sized {
    /// x and y of every slot.
    type Operands: Default;

    /// What its kernels round a rank up to.
    fn granule(&self) -> Granule;

    /// Makes slots of `m` tokens in place of those there are. `fill` gets the x of one slot after another:
    /// all its products', in a row. An error if there is no memory for them.
    fn resize(
        &self,
        operands: &mut Rc<Self::Operands>,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        fill: impl FnMut(&mut [Self::Element]),
    ) -> anyhow::Result<()>;

    /// Forward passes of a call, each of so many operations.
    fn passes(&self, _slots: usize, _flops: f64) -> usize {
        1
    }

    /// What is to be done when another process begins to compute here.
    fn called(&self) -> Box<dyn Fn()> {
        Box::new(|| ())
    }

    /// A method that was made ready; None, and a line on stderr with its `id`, for one that can be left out.
    fn or_left_out(&self, _id: &str, made: anyhow::Result<Box<dyn Call>>) -> anyhow::Result<Ready> {
        made.map(Some)
    }

    /// This library's method of a strategy and a rank on the linear layers, ready.
    fn linears(setup: &LinearSetup<Self>, strategy: Strategy, rank: usize) -> anyhow::Result<Box<dyn Call>>;

    /// What the machine could do at best; None where there are no probes.
    fn probes(&self) -> Option<&Probes> {
        None
    }
}

/// Who computes a transformer's layer as well, which is of f16.
pub trait LayerExecutor: Executor<Element = f16> {
    /// What layers of a transformer are made with.
    type Backend: Backend;

    /// Where their weights are laid out.
    fn backend(&self) -> &Self::Backend;

    /// A method of the transformer's layer, ready: a model for each slot of weights, with adapters of that
    /// rank.
    fn layers(
        setup: &LayerSetup<Self>,
        models: Vec<Model<Self::Backend>>,
        seq_len: usize,
        rank: usize,
    ) -> anyhow::Result<Box<dyn Call>>;
}

/// What the methods of a size compute on, with the weights `W` of a workload.
pub struct Setup<B: Executor, W> {
    /// Who computes.
    pub backend: B,
    /// Weights.
    pub weights: W,
    /// x and y.
    pub operands: Rc<B::Operands>,
    /// State of the caches.
    pub cache: Cache,
    /// Slots of weights: one where they stay warm, else as many as of x and y.
    pub weight_slots: usize,
    /// Forward passes of a call: round and round over all slots, from the first on.
    pub passes: usize,
}

/// What the linear layers are computed on.
pub type LinearSetup<E> = Setup<E, LinearWeights<E>>;
/// What the transformer's layer is computed on.
pub type LayerSetup<E> = Setup<E, LayerWeights>;

impl<B: Executor, W> Setup<B, W> {
    /// Without operands yet.
    pub fn new(backend: B, weights: W, cache: Cache) -> Setup<B, W> {
        Setup { backend, weights, operands: Rc::default(), cache, weight_slots: 1, passes: 1 }
    }

    /// Makes operands for passes of so many operations; the rest is as in [`Executor::resize`].
    pub(crate) fn resize(
        &mut self,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        flops: f64,
        mut fill: impl FnMut(&W, &mut [B::Element]),
    ) -> anyhow::Result<()> {
        let Setup { backend, weights, operands, .. } = self;
        backend.resize(operands, m, widths, slots, |x| fill(weights, x))?;
        self.passes = self.backend.passes(slots, flops);
        self.weight_slots = if self.cache == Cache::Cold { slots } else { 1 };
        Ok(())
    }

    /// The probes that run beside calls of so many operations.
    pub(crate) fn probes(&self, flops: f64) -> impl Iterator<Item = Method> {
        self.backend.probes().into_iter().flat_map(move |probes| probes.methods(flops))
    }

    pub(crate) fn probe(&self, probe: Probe, flops: f64) -> anyhow::Result<Box<dyn Call>> {
        Ok(self.backend.probes().context("this backend has no probes")?.ready(probe, flops))
    }
}

//! What the suites need of a backend, whatever the workload.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::Context as _;
use fused_lora::Granule;
use fused_lora::cpu::Simd;
use fused_lora_transformer::cpu::Workspace;
use half::f16;

use crate::method::{Call, Method, Probe};
use crate::operands::Operands;
use crate::probes::{self, Memory};
use crate::settings::Cache;

/// Who computes.
pub trait Backend {
    /// x and y of every slot.
    type Operands: Default;

    /// What its kernels round a rank up to.
    fn granule(&self) -> Granule;

    /// Makes slots of `m` tokens in place of those there are. `fill` gets the x of one slot after another: all its products', in a row.
    /// An error if there is no memory for them.
    fn resize(
        &self,
        operands: &mut Rc<Self::Operands>,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        fill: impl FnMut(&mut [f16]),
    ) -> anyhow::Result<()>;

    /// Forward passes of a call, each of so many operations.
    fn passes(&self, _slots: usize, _flops: f64) -> usize {
        1
    }

    /// What the probes read; None where there are no probes.
    fn memory(&self) -> Option<&Memory> {
        None
    }

    /// As [`Suite::clock_mhz`](crate::suite::Suite::clock_mhz).
    fn clock_mhz(&self) -> Option<f64> {
        None
    }

    /// As [`Suite::preamble`](crate::suite::Suite::preamble).
    fn preamble(&self) -> anyhow::Result<Option<String>> {
        Ok(None)
    }
}

/// What the methods of a size compute on, with the weights `W` of a workload.
pub struct Ground<B: Backend, W> {
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

impl<B: Backend, W> Ground<B, W> {
    /// Without operands yet.
    pub fn new(backend: B, weights: W, cache: Cache) -> Ground<B, W> {
        Ground { backend, weights, operands: Rc::default(), cache, weight_slots: 1, passes: 1 }
    }

    /// Makes operands for passes of so many operations; the rest is as in [`Backend::resize`].
    pub(crate) fn resize(
        &mut self,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        flops: f64,
        mut fill: impl FnMut(&W, &mut [f16]),
    ) -> anyhow::Result<()> {
        let Ground { backend, weights, operands, .. } = self;
        backend.resize(operands, m, widths, slots, |x| fill(weights, x))?;
        self.passes = self.backend.passes(slots, flops);
        self.weight_slots = if self.cache == Cache::Cold { slots } else { 1 };
        Ok(())
    }

    /// The probes that run beside calls of so many operations.
    pub(crate) fn probes(&self, flops: f64) -> impl Iterator<Item = Method> {
        self.backend.memory().into_iter().flat_map(move |_| probes::methods(flops))
    }

    pub(crate) fn probe(&self, probe: Probe, flops: f64) -> anyhow::Result<Box<dyn Call>> {
        Ok(self.backend.memory().context("this backend has no probes")?.call(probe, flops))
    }
}

/// The processor of this host.
pub struct Processor {
    /// Its instructions that are used.
    pub simd: Simd,
    memory: Memory,
    /// Of all methods of the layer: it grows to what the largest rank needs.
    pub(crate) workspace: Rc<RefCell<Workspace>>,
}

impl Processor {
    /// With a last-level cache of so many bytes; 0 for a test run.
    pub fn new(simd: Simd, last_level_cache: usize) -> Processor {
        Processor { simd, memory: Memory::new(last_level_cache), workspace: Rc::default() }
    }
}

impl Backend for Processor {
    type Operands = RefCell<Operands>;

    fn granule(&self) -> Granule {
        self.simd.granule()
    }

    fn resize(
        &self,
        operands: &mut Rc<RefCell<Operands>>,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        mut fill: impl FnMut(&mut [f16]),
    ) -> anyhow::Result<()> {
        // The last size may have been larger.
        self.workspace.take();
        let mut operands = operands.borrow_mut();
        operands.resize(m, widths, slots, |_| ());
        (0..slots).for_each(|slot| fill(operands.x_mut(slot)));
        Ok(())
    }

    fn memory(&self) -> Option<&Memory> {
        Some(&self.memory)
    }
}

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Backend for crate::cuda::Gpu {
    type Operands = crate::cuda::Operands;

    fn granule(&self) -> Granule {
        self.machine().granule
    }

    fn resize(
        &self,
        operands: &mut Rc<Self::Operands>,
        m: usize,
        widths: &[(usize, usize)],
        slots: usize,
        mut fill: impl FnMut(&mut [f16]),
    ) -> anyhow::Result<()> {
        // The last size's go first.
        *operands = Rc::default();
        let mut new = Self::Operands::new(m, widths);
        let mut x = vec![f16::ZERO; m * widths.iter().map(|&(k, _)| k).sum::<usize>()];
        for _ in 0..slots {
            fill(&mut x);
            new.push(&self.device, &x)?;
        }
        *operands = Rc::new(new);
        Ok(())
    }

    fn passes(&self, slots: usize, flops: f64) -> usize {
        crate::cuda::passes(slots, flops, self.peak_flops())
    }

    fn clock_mhz(&self) -> Option<f64> {
        Self::clock_mhz(self)
    }

    fn preamble(&self) -> anyhow::Result<Option<String>> {
        Ok(Some(self.overhead()?.to_string()))
    }
}

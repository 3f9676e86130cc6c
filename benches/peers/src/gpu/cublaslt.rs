//! The peer: cuBLASLt's calls in a CUDA graph, as a method that is timed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora::cuda::{Buffer, Error, Event, Graph, Stream};
use fused_lora_benches::cuda::captured::{Captured, capture};
use fused_lora_benches::cuda::{Gpu, Operands};
use fused_lora_benches::linear::cuda::Ground;
use fused_lora_benches::linear::weights::Linear;
use fused_lora_benches::method::Call;
use half::f16;

use crate::gpu::context::Context;
use crate::gpu::fastest::fastest;
use crate::gpu::library::{Handle, Missing};
use crate::gpu::matmul::{Algorithm, Matmul, Scratch, WORKSPACE_BYTES};
use crate::gpu::product::Product;
use crate::gpu::steps::{Places, Sizes, Step, padded, steps};
use crate::gpu::weights::{Weights, upload};

/// Seconds that one trial of an algorithm is to take, by the device's peak.
const TRIAL: f64 = 0.3e-3;
/// Calls of a trial, at least and at most.
const CALLS: [usize; 2] = [2, 20];

/// The library, and what it has been found to do best so far.
pub struct CublasLt {
    gpu: Gpu,
    scratch: Buffer,
    /// W on the device by slot and projection: one for the base and all ranks.
    w: RefCell<Vec<Vec<Rc<Buffer>>>>,
    /// By product: a size's base is the same at every rank, and is tried once.
    chosen: RefCell<HashMap<Product, Rc<Chosen>>>,
    /// Dropped while its context is current.
    handle: ManuallyDrop<Handle>,
    context: Context,
}

/// A product with its fastest algorithm.
struct Chosen {
    matmul: Matmul,
    algorithm: Algorithm,
}

impl CublasLt {
    /// The library on that device's context; or why it is left out.
    ///
    /// # Errors
    ///
    /// If the device fails. That the library is not there is none.
    pub fn new(gpu: &Gpu) -> anyhow::Result<Result<CublasLt, Missing>> {
        let context = Context::retain(gpu.device.ordinal())?;
        let handle = {
            let _entered = context.enter()?;
            match Handle::new() {
                Ok(handle) => handle,
                Err(missing) => return Ok(Err(missing)),
            }
        };
        let scratch = Buffer::zeroed(&gpu.device, WORKSPACE_BYTES / size_of::<f16>())?;
        let (w, chosen, handle) = (RefCell::default(), RefCell::default(), ManuallyDrop::new(handle));
        Ok(Ok(CublasLt { gpu: gpu.clone(), scratch, w, chosen, handle, context }))
    }

    /// The library's version: 120901 is 12.9.1.
    #[must_use]
    pub fn version(&self) -> usize {
        self.handle.version()
    }

    /// Its base product, or its three calls, in a graph of as many passes as this library's strategies make.
    ///
    /// # Errors
    ///
    /// If there is no memory for the weights, or the library knows no algorithm for a product.
    ///
    /// # Panics
    ///
    /// If `strategy` is the fused one, which this peer has not.
    pub fn method(
        self: &Rc<Self>,
        ground: &Ground,
        strategy: Strategy,
        rank: usize,
    ) -> anyhow::Result<Box<dyn Call>> {
        assert_ne!(strategy, Strategy::Fused, "cuBLASLt has no fused call");
        let rank = if strategy == Strategy::Base { 0 } else { rank };
        let (device, operands) = (&self.gpu.device, &ground.operands);
        let slots = ground.weights.slots(ground.weight_slots);
        let mut w = self.w.borrow_mut();
        for slot in &slots[w.len().min(slots.len())..] {
            let of_projection = |linear: &Linear<_>| Ok(Rc::new(upload(device, &linear.w)?));
            w.push(slot.iter().map(of_projection).collect::<Result<_, Error>>()?);
        }
        let of_slot = |(slot, w): (&Vec<Linear<_>>, &Vec<Rc<Buffer>>)| -> Result<Vec<Weights>, Error> {
            slot.iter().zip(w).map(|(linear, w)| Weights::new(device, linear, Rc::clone(w), rank)).collect()
        };
        let weights: Vec<Vec<Weights>> = slots.iter().zip(&*w).map(of_slot).collect::<Result<_, _>>()?;
        let h = Buffer::zeroed(device, (operands.m() * padded(rank)).max(1))?;

        let _entered = self.context.enter()?;
        let mut passes = Vec::new();
        for slot in 0..operands.slots() {
            let steps = pass(operands, slot, &weights[slot % weights.len()], &h);
            passes.push(self.with_algorithms(&steps)?);
        }
        let graph = capture(&self.gpu.stream, ground.passes, operands.slots(), |slot, stream| {
            self.run(&passes[slot], stream)
        })?;
        let kept = Box::new((weights, h, Rc::clone(self)));
        // SAFETY: the passes use the operands, and weights, h, and the library with its scratch memory, which are kept. That memory is shared with
        // other graphs of the library, whose launches follow each other on the one stream.
        Ok(Box::new(unsafe { Captured::new(&self.gpu, operands, ground.passes, graph, kept)? }))
    }

    fn with_algorithms(&self, steps: &[Step]) -> anyhow::Result<Vec<(Step, Rc<Chosen>)>> {
        steps.iter().map(|&step| Ok((step, self.chosen(step)?))).collect()
    }

    /// The fastest algorithm, tried on these operands unless it is known.
    fn chosen(&self, step: Step) -> anyhow::Result<Rc<Chosen>> {
        if let Some(chosen) = self.chosen.borrow().get(&step.product) {
            return Ok(Rc::clone(chosen));
        }
        let matmul = Matmul::new(step.product)?;
        let candidates = matmul.candidates(&self.handle)?;
        let calls = (TRIAL * self.gpu.peak_flops() / step.product.flops()).ceil() as usize;
        let calls = calls.clamp(CALLS[0], CALLS[1]);
        let mut trials = Vec::new();
        let mut refused = None;
        for algorithm in &candidates {
            match self.trial(&matmul, algorithm, step, calls) {
                Ok(graph) => trials.push((algorithm, graph)),
                // Heuristics offer some that are then refused.
                Err(error) => refused = Some(error),
            }
        }
        let (start, stop) = (Event::new(&self.gpu.device)?, Event::new(&self.gpu.device)?);
        let fastest = fastest(trials.len(), |way| -> Result<f64, fused_lora::cuda::Error> {
            start.record(&self.gpu.stream)?;
            // SAFETY: what was captured works on the caller's buffers and on the scratch memory, all of which
            // outlive this call; one stream, and it is waited for.
            unsafe { trials[way].1.launch(&self.gpu.stream)? };
            stop.record(&self.gpu.stream)?;
            stop.synchronize()?;
            stop.seconds_since(&start)
        })?;
        let Some(fastest) = fastest else {
            let refused = refused.unwrap_or_else(|| anyhow::anyhow!("its heuristics offer none"));
            return Err(refused.context(format!("no algorithm of cuBLASLt runs {:?}", step.product)));
        };
        let chosen = Rc::new(Chosen { algorithm: *trials[fastest].0, matmul });
        self.chosen.borrow_mut().insert(step.product, Rc::clone(&chosen));
        Ok(chosen)
    }

    /// So many calls with an algorithm as a graph: one by one, the host would be too slow for the small ones.
    fn trial(
        &self,
        matmul: &Matmul,
        algorithm: &Algorithm,
        step: Step,
        calls: usize,
    ) -> anyhow::Result<Graph> {
        let stream = &self.gpu.stream;
        // The library loads a kernel when it is first run, which a stream in capture need not allow.
        self.call(matmul, algorithm, step, stream)?;
        stream.synchronize()?;
        capture(stream, calls, 1, |_, stream| self.call(matmul, algorithm, step, stream))
    }

    fn run(&self, pass: &[(Step, Rc<Chosen>)], stream: &Stream) -> anyhow::Result<()> {
        let call =
            |(step, chosen): &(Step, Rc<Chosen>)| self.call(&chosen.matmul, &chosen.algorithm, *step, stream);
        pass.iter().try_for_each(call)
    }

    fn call(
        &self,
        matmul: &Matmul,
        algorithm: &Algorithm,
        step: Step,
        stream: &Stream,
    ) -> anyhow::Result<()> {
        let scratch = Scratch(self.scratch.address());
        // SAFETY: the addresses are of buffers as large as the step's product, which the method or the trial
        // keeps until its last launch is waited for; h, y and the scratch memory are written in the order of
        // the one stream.
        unsafe {
            matmul.enqueue(&self.handle, algorithm, step.alpha, step.addresses, scratch, stream.as_raw())?;
        }
        Ok(())
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        let _entered = self.context.enter();
        // SAFETY: dropped here alone, and not used after it.
        unsafe { ManuallyDrop::drop(&mut self.handle) };
    }
}

/// The name in the records.
#[must_use]
pub fn name(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::Base => "cublaslt/base",
        _ => "cublaslt/three-calls",
    }
}

/// The steps of one forward pass: those of each projection in turn. h is one for all of them.
fn pass(operands: &Operands, slot: usize, weights: &[Weights], h: &Buffer) -> Vec<Step> {
    let of_projection = |(weights, (x, y)): (&Weights, (u64, u64))| {
        let Weights { w, adapter, n, k } = weights;
        let address = |part: Option<&Buffer>| part.map_or(0, Buffer::address);
        let (a, b) = adapter.as_ref().map(|(a, b)| (a, b)).unzip();
        let rank = b.map_or(0, |b| b.len() / n);
        let places = Places { x, w: w.address(), a: address(a), b: address(b), h: h.address(), y };
        steps(Sizes { m: operands.m(), n: *n, k: *k, rank }, places)
    };
    weights.iter().zip(operands.addresses(slot)).flat_map(of_projection).collect()
}

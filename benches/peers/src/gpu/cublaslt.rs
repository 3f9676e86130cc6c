//! The peer: cuBLASLt's calls in a CUDA graph, as a method that is timed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use anyhow::anyhow;
use cust::context::Context;
use fused_lora::Strategy;
use fused_lora::cuda::{Buffer, Stream};
use fused_lora_benches::cuda::captured::Captured;
use fused_lora_benches::cuda::{Gpu, Operands};
use fused_lora_benches::executor::LinearSetup;
use fused_lora_benches::linear::{Library, theirs};
use fused_lora_benches::method::Call;
use half::f16;
use ndarray::Array2;

use super::library::Handle;
use super::matmul::{Algorithm, Matmul, WORKSPACE_BYTES};
use super::steps::{Product, Step, padded, steps, with_zeros};
use crate::weights::{Kept, weights};

/// Seconds that one trial of an algorithm is to take, by the device's peak.
const TRIAL: f64 = 0.3e-3;
/// Calls of a trial, at least and at most.
const CALLS: [usize; 2] = [2, 20];

/// Times that each is timed, after one run that does not count.
const TRIALS: usize = 3;

/// A call with an algorithm.
struct Ready {
    matmul: Rc<Matmul>,
    algorithm: Algorithm,
    step: Step,
}

/// The library, and what it has been found to do best so far.
struct CublasLt {
    gpu: Gpu,
    scratch: Buffer,
    w: Kept<Rc<Buffer>>,
    /// By product: a size's base is the same at every rank, and is tried once.
    chosen: RefCell<HashMap<Product, (Rc<Matmul>, Algorithm)>>,
    // Before its context: fields are dropped in this order.
    handle: Handle,
    _context: Context,
}

/// With the context that the handle is of, which has to stay current.
pub(super) fn library(gpu: &Gpu, handle: Handle, context: Context) -> anyhow::Result<Library<Gpu>> {
    let scratch = Buffer::zeroed(&gpu.device, WORKSPACE_BYTES / size_of::<f16>())?;
    let (w, chosen) = (Kept::default(), RefCell::default());
    let cublaslt = Rc::new(CublasLt { gpu: gpu.clone(), scratch, w, chosen, handle, _context: context });
    let name = |strategy| match strategy {
        Strategy::Base => "cublaslt/base",
        _ => "cublaslt/three-calls",
    };
    Ok(Library {
        name: Box::new(move |strategy| name(strategy).to_owned()),
        strategies: theirs,
        make: Box::new(move |setup, strategy, rank| cublaslt.method(setup, strategy, rank)),
    })
}

impl CublasLt {
    /// Its base product, or its three calls, in a graph of as many passes as this library's strategies make.
    fn method(
        self: &Rc<Self>,
        setup: &LinearSetup<Gpu>,
        strategy: Strategy,
        rank: usize,
    ) -> anyhow::Result<Box<dyn Call>> {
        let (gpu, operands) = (&self.gpu, &setup.operands);
        let upload = |matrix: &Array2<f16>| {
            let elements = matrix.as_slice().expect("it is one row after another");
            Ok(Rc::new(Buffer::from_slice(&gpu.device, elements)?))
        };
        let weights = weights(
            &self.w,
            setup.weights.slots(setup.weight_slots),
            (strategy != Strategy::Base).then_some(rank),
            |w| upload(w),
            |lora| {
                let (a, b) = with_zeros(&lora.a, &lora.b);
                Ok((upload(&a)?, upload(&b)?))
            },
        )?;
        // One for all projections.
        let h = Buffer::zeroed(&gpu.device, (operands.m() * padded(rank)).max(1))?;
        let mut passes = Vec::new();
        for slot in 0..operands.slots() {
            let mut pass = Vec::new();
            for (weights, (x, y)) in weights[slot % weights.len()].iter().zip(operands.addresses(slot)) {
                let places = [x, h.address(), y];
                for step in steps(places, operands.m(), padded(rank), weights, |w| w.address()) {
                    pass.push(self.chosen(step, operands)?);
                }
            }
            passes.push(pass);
        }
        let pass = |_: &mut _, slot: usize, stream: &Stream| {
            passes[slot].iter().try_for_each(|ready| self.call(ready, stream))
        };
        let kept = (weights, h, Rc::clone(self));
        // SAFETY: the passes use the operands, and weights, h, and the library with its scratch memory, which
        // are kept. That memory is shared with other graphs of the library, whose launches follow each other
        // on the one stream.
        Ok(Box::new(unsafe { Captured::new(gpu, operands, setup.passes, kept, pass)? }))
    }

    /// The fastest algorithm, tried on these operands unless it is known.
    fn chosen(&self, step: Step, operands: &Rc<Operands>) -> anyhow::Result<Ready> {
        if let Some((matmul, algorithm)) = self.chosen.borrow().get(&step.product) {
            return Ok(Ready { matmul: Rc::clone(matmul), algorithm: *algorithm, step });
        }
        let matmul = Rc::new(Matmul::new(step.product)?);
        let calls = (TRIAL * self.gpu.peak_flops() / step.product.flops()).ceil() as usize;
        let calls = calls.clamp(CALLS[0], CALLS[1]);
        let (mut trials, mut refused) = (Vec::new(), anyhow!("its heuristics offer none"));
        for algorithm in matmul.candidates(&self.handle)? {
            let ready = Ready { matmul: Rc::clone(&matmul), algorithm, step };
            match self.trial(&ready, operands, calls) {
                Ok(trial) => trials.push((ready, trial)),
                // Heuristics offer some that are then refused.
                Err(error) => refused = error,
            }
        }
        let fastest = fastest(trials.len(), |way| Ok::<_, anyhow::Error>(trials[way].1.call(0)?.wall))?;
        let Some(fastest) = fastest else {
            return Err(refused.context(format!("no algorithm of cuBLASLt runs {:?}", step.product)));
        };
        let (ready, _) = trials.swap_remove(fastest);
        self.chosen.borrow_mut().insert(step.product, (matmul, ready.algorithm));
        Ok(ready)
    }

    /// So many calls as a graph: one by one, the host would be too slow for the small ones.
    fn trial(&self, ready: &Ready, operands: &Rc<Operands>, calls: usize) -> anyhow::Result<Captured> {
        let stream = self.gpu.stream();
        // The library loads a kernel when it is first run, which a stream in capture need not allow.
        self.call(ready, stream)?;
        stream.synchronize()?;
        // SAFETY: what was captured works on the caller's buffers and on the scratch memory, all of which
        // outlive the trial; all launches are on the one stream.
        unsafe { Captured::new(&self.gpu, operands, calls, (), |(), _, stream| self.call(ready, stream)) }
    }

    fn call(&self, Ready { matmul, algorithm, step }: &Ready, stream: &Stream) -> anyhow::Result<()> {
        // SAFETY: the addresses are of buffers as large as the step's product, which the method or the trial
        // keeps until its last launch is waited for; h, y and the scratch memory are written in the order of
        // the one stream.
        unsafe { matmul.enqueue(&self.handle, algorithm, step, self.scratch.address(), stream.as_raw()) }
    }
}

/// The number of the way that `seconds` finds fastest, by its fastest trial; None if there are none.
///
/// They are tried in turn, so that a slow moment of the device does not fall on one of them alone.
///
/// # Errors
///
/// The first of `seconds`.
fn fastest<E>(ways: usize, mut seconds: impl FnMut(usize) -> Result<f64, E>) -> Result<Option<usize>, E> {
    let mut best = vec![f64::INFINITY; ways];
    for trial in 0..=TRIALS {
        for (way, best) in best.iter_mut().enumerate() {
            let time = seconds(way)?;
            if trial > 0 {
                *best = best.min(time);
            }
        }
    }
    Ok((0..ways).min_by(|&a, &b| best[a].total_cmp(&best[b])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found among ways that take so long, run by run.
    fn found<const N: usize>(times: [[f64; 4]; N]) -> Result<Option<usize>, &'static str> {
        let mut runs = [0; N];
        fastest(N, |way| {
            runs[way] += 1;
            times[way].get(runs[way] - 1).copied().ok_or("a fifth run")
        })
    }

    #[test]
    fn the_fastest_is_kept() {
        assert_eq!(found([[3.0; 4], [2.0; 4], [2.5; 4]]), Ok(Some(1)));
        assert_eq!(found([]), Ok(None));
        assert_eq!(fastest(2, |way| if way == 0 { Ok(1.0) } else { Err("gone") }), Err("gone"));
        // The first run of each does not count, and one fast trial is enough, be it the last.
        assert_eq!(found([[0.1, 5.0, 5.0, 5.0], [100.0, 9.0, 9.0, 4.0]]), Ok(Some(1)));
    }
}

//! A method as a graph: what is checked is what is timed.

use std::any::Any;
use std::rc::Rc;

use cust::event::{Event, EventFlags};
use fused_lora::cuda::Stream;
use half::f16;
use ndarray::Array2;

use super::graph::Graph;
use crate::cuda::{Gpu, Operands};
use crate::method::Call;
use crate::time::Time;

/// Forward passes of a method, round and round over all slots of a ring, captured once.
pub struct Captured {
    // Before what it refers to: fields are dropped in this order.
    graph: Graph,
    passes: usize,
    gpu: Gpu,
    start: Event,
    stop: Event,
    operands: Rc<Operands>,
    /// Weights, workspaces, and whatever else the graph holds addresses of.
    _kept: Box<dyn Any>,
}

impl Captured {
    /// A graph of so many passes, round and round over the slots; `pass` puts the one on a slot into the
    /// stream.
    ///
    /// # Safety
    ///
    /// All memory that the passes use is the operands', or is owned by `kept`. No other stream than the GPU's
    /// uses it while this lives.
    pub unsafe fn new<K: Any>(
        gpu: &Gpu,
        operands: &Rc<Operands>,
        passes: usize,
        mut kept: K,
        mut pass: impl FnMut(&mut K, usize, &Stream) -> anyhow::Result<()>,
    ) -> anyhow::Result<Captured> {
        let event = || Event::new(EventFlags::DEFAULT);
        let graph = Graph::capture(&gpu.queue, |stream| {
            (0..passes).try_for_each(|i| pass(&mut kept, i % operands.slots(), stream))
        })?;
        let (start, stop, operands) = (event()?, event()?, Rc::clone(operands));
        Ok(Captured { graph, passes, gpu: gpu.clone(), start, stop, operands, _kept: Box::new(kept) })
    }
}

impl Call for Captured {
    fn call(&mut self, _: usize) -> anyhow::Result<Time> {
        let queue = &self.gpu.queue;
        queue.record(&self.start)?;
        // SAFETY: the memory is kept, by the contract of `new`, and launches follow each other on the one
        // stream.
        unsafe { self.graph.launch(queue)? };
        queue.record(&self.stop)?;
        self.gpu.clock.sample();
        self.stop.synchronize()?;
        let milliseconds = self.stop.elapsed_time_f32(&self.start)?;
        let seconds = f64::from(milliseconds) / 1e3 / self.passes as f64;
        anyhow::ensure!(seconds > 0.0 && seconds.is_finite(), "the device says that a pass took {seconds} s");
        Ok(Time { wall: seconds, cpu: None })
    }

    fn poison(&mut self) -> anyhow::Result<()> {
        Ok(self.operands.poison()?)
    }

    fn output(&mut self) -> anyhow::Result<Vec<Array2<f32>>> {
        let of = |(y, n)| Ok(Array2::from_shape_vec((self.operands.m(), n), y)?.mapv(f16::to_f32));
        self.operands.read(0)?.into_iter().map(of).collect()
    }
}

//! A method as a graph: what is checked is what is timed. And how many forward passes one graph holds.

use std::any::Any;
use std::rc::Rc;

use cust::event::{Event, EventFlags};
use fused_lora::cuda::Stream;
use half::f16;
use ndarray::Array2;

use super::graph::Graph;
use crate::cuda::gpu::Gpu;
use crate::cuda::operands::Operands;
use crate::method::Call;
use crate::time::Time;

/// A launch of a graph costs what a few kernels cost; with so many passes in it that does not show.
pub const FEWEST: usize = 20;
/// A small pass takes microseconds, whatever the arithmetic says: so many of them take a millisecond.
const MOST: usize = 256;
/// Seconds that a call is to take, or more: two thousand steps of the clock that events read.
const CALL: f64 = 1e-3;

/// Passes of so many operations, on a ring of so many slots, that make one call. `peak_flops` are about the
/// operations that the device can do in a second; a pass is slower than that, so a call takes a millisecond
/// or more. One slot is a test's: it takes one pass.
pub fn passes(slots: usize, flops: f64, peak_flops: f64) -> usize {
    if slots == 1 {
        return 1;
    }
    let passes = (CALL * peak_flops / flops).ceil() as usize;
    // A round of the ring that is not finished would leave its first slots warm.
    passes.clamp(FEWEST, MOST).next_multiple_of(slots)
}

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

#[cfg(test)]
mod tests {
    use fused_lora::DType;
    use fused_lora_records::{Workload, grid};

    use super::*;
    use crate::linear::Alike;
    use crate::method::slots_apart;
    use crate::settings::Cache;
    use crate::size::Size;

    const L2: usize = 50 << 20;
    /// Dense f16 on 132 SMs at 1.98 GHz.
    const PEAK: f64 = 535e12;

    fn span(workload: &Workload, m: usize, cache: Cache) -> (usize, usize) {
        let size = Size { seq_len: 1, batch: m };
        let like = Alike { workload, cache, dtype: DType::F16, ranks: &[0], mix: 1, size };
        let slots = slots_apart(like.work(0).bytes as usize, 3 * L2);
        (slots, passes(slots, workload.flops_base(m), PEAK))
    }

    #[test]
    fn spans_by_hand() {
        let linear = Workload::by_name("linear-1024x1024").unwrap();
        // 2 MiB of W and 0.5 MiB of x and y: 60 slots between two uses, and the one itself.
        assert_eq!(span(linear, 128, Cache::Cold), (61, 305));
        // 0.5 MiB: 300 and one.
        assert_eq!(span(linear, 128, Cache::WarmW), (301, 301));
        // 535 GFLOP in passes of 8.6; 18 MiB: nine slots and one.
        assert_eq!(span(linear, 4096, Cache::Cold), (10, 70));
        // 66 MiB: three and one. A pass has 34 GFLOP, so 16 would do.
        assert_eq!(span(linear, 16_384, Cache::Cold), (4, 20));
        assert_eq!(passes(1, 1.0, 1e12), 1, "a test run");
    }

    #[test]
    fn every_call_is_long_enough_and_ends_where_it_began() {
        for (workload, cell) in Workload::LINEARS.iter().flat_map(|w| grid().map(move |cell| (w, cell))) {
            for cache in [Cache::Cold, Cache::WarmW] {
                let (slots, passes) = span(workload, cell.m(), cache);
                assert!(passes >= FEWEST && passes.is_multiple_of(slots), "{cell} {cache:?}");
                let shortest = passes as f64 * workload.flops_base(cell.m()) / PEAK;
                assert!(passes >= MOST || shortest >= CALL, "{cell} {cache:?}: {shortest} s");
            }
        }
    }
}

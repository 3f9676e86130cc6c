//! What a graph costs besides its kernels.

use cust::event::{Event, EventFlags};
use fused_lora::cuda::Buffer;
use half::f16;

use super::captured::FEWEST;
use super::{Gpu, graph::Graph};
use crate::stats::quantile;

/// Nodes of the graph that does next to nothing.
const NODES: usize = 20;
/// Launches that each median is taken over, after one that is not counted.
const LAUNCHES: usize = 51;

impl Gpu {
    /// One line: how long an empty graph and one of next to nothing take between their events, and what it
    /// means for a pass.
    pub fn overhead(&self) -> anyhow::Result<String> {
        let Gpu { device, queue, .. } = self;
        let mut element = Buffer::zeroed(device, 1)?;
        let empty = Graph::capture(queue, |_| Ok(()))?;
        let chain =
            Graph::capture(queue, |stream| (0..NODES).try_for_each(|_| Ok(element.fill(f16::ONE, stream)?)))?;
        let (start, stop) = (Event::new(EventFlags::DEFAULT)?, Event::new(EventFlags::DEFAULT)?);
        let time = |graph: &Graph| -> anyhow::Result<f64> {
            queue.record(&start)?;
            // SAFETY: the one buffer outlives both graphs' launches, each of which is waited for.
            unsafe { graph.launch(queue)? };
            queue.record(&stop)?;
            stop.synchronize()?;
            Ok(f64::from(stop.elapsed_time_f32(&start)?) / 1e3)
        };
        let median_of = |graph: &Graph| -> anyhow::Result<f64> {
            time(graph)?;
            let times = (0..LAUNCHES).map(|_| time(graph)).collect::<Result<Vec<_>, _>>()?;
            Ok(quantile(&times, 0.5).unwrap_or(f64::NAN))
        };
        Ok(line(median_of(&empty)?, median_of(&chain)?))
    }
}

fn line(empty: f64, chain: f64) -> String {
    let [empty, chain] = [empty, chain].map(|seconds| 1e6 * seconds);
    format!(
        "between two events an empty graph takes {empty:.2} us, one of {NODES} memsets of one element \
         {chain:.2} us; a call is one graph of {} passes or more, and nothing is subtracted: at most \
         {:.3} us a pass",
        FEWEST,
        empty / FEWEST as f64,
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_line_says_what_it_costs_a_pass() {
        let line = super::line(4.2e-6, 25e-6);
        for part in ["empty graph takes 4.20 us", "20 memsets of one element 25.00 us", "at most 0.210 us"] {
            assert!(line.contains(part), "{line}");
        }
    }
}

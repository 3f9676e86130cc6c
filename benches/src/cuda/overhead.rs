//! What a graph costs besides its kernels.

use std::fmt;

use fused_lora::cuda::{Buffer, Device, Error, Event, Graph, Stream};
use half::f16;

use crate::stats::median;

/// Nodes of the graph that does next to nothing.
const NODES: usize = 20;
/// Launches that each median is taken over, after one that is not counted.
const LAUNCHES: usize = 51;

/// Seconds between the events around a graph, in the median.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overhead {
    /// Of a graph without a node.
    pub empty: f64,
    /// Of one with 20 in a row, each of which sets one element.
    pub chain: f64,
}

impl Overhead {
    pub(super) fn measure(device: &Device, stream: &Stream) -> Result<Overhead, Error> {
        let mut element = Buffer::zeroed(device, 1)?;
        let empty = Graph::capture(stream, |_| Ok(()))?;
        let chain =
            Graph::capture(stream, |stream| (0..NODES).try_for_each(|_| element.fill(f16::ONE, stream)))?;
        let (start, stop) = (Event::new(device)?, Event::new(device)?);
        let time = |graph: &Graph| -> Result<f64, Error> {
            start.record(stream)?;
            // SAFETY: the one buffer outlives both graphs' launches, each of which is waited for.
            unsafe { graph.launch(stream)? };
            stop.record(stream)?;
            stop.synchronize()?;
            stop.seconds_since(&start)
        };
        let median_of = |graph: &Graph| -> Result<f64, Error> {
            time(graph)?;
            let times = (0..LAUNCHES).map(|_| time(graph)).collect::<Result<Vec<_>, _>>()?;
            Ok(median(&times))
        };
        Ok(Overhead { empty: median_of(&empty)?, chain: median_of(&chain)? })
    }
}

/// One line, with what it means for a pass.
impl fmt::Display for Overhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [empty, chain] = [self.empty, self.chain].map(|seconds| 1e6 * seconds);
        write!(
            f,
            "between two events an empty graph takes {empty:.2} us, one of {NODES} memsets of one element \
             {chain:.2} us; a call is one graph of {} passes or more, and nothing is subtracted: at most \
             {:.3} us a pass",
            super::span::FEWEST,
            empty / super::span::FEWEST as f64,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_it_costs_a_pass() {
        let line = Overhead { empty: 4.2e-6, chain: 25e-6 }.to_string();
        for part in ["empty graph takes 4.20 us", "20 memsets of one element 25.00 us", "at most 0.210 us"] {
            assert!(line.contains(part), "{line}");
        }
    }
}

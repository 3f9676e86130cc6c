//! Which kernel is the fastest for a call: [`seconds`] estimates each, and the shortest is chosen.
//!
//! The model ranks the variants of one operation. It does not predict times: nothing in it was fitted to a
//! GPU. Its constants come from data sheets, published measurements and the kernels' own source; each states
//! its origin.
//!
//! A launch takes the cycles of its busiest SM at the GPU's highest clock, or as long as device memory needs
//! for every operand once, whichever is more, and a part of the other:
//!
//! ```text
//! seconds = max(on chip, memory) + 0.1 · min(on chip, memory) + gap between launches
//! ```
//!
//! `unfused` is the sum of three. Each set of kernels has its own model of the cycles of the busiest SM:
//!
//! | kernels for | model |
//! |---|---|
//! | compute capability 8.0 and later: `mma.sync`, `cp.async`, several CTAs on an SM | [`sm80`] |
//! | compute capability 9.0: `wgmma`, tensor copies, warp specialisation, clusters | [`sm90`] |
//!
//! The consequences, as tables: see `choices` in this module's tests.

pub mod sm80;
pub mod sm90;
mod work;

use fused_lora_kernels::table::{Kernel, Operation, Target};

use super::properties::Properties;
pub use work::{Placement, Work};
pub(crate) use work::{cluster_items, makes_h, outputs};

/// How much of the shorter of arithmetic and memory traffic shows beside the longer: a launch's first loads
/// and last stores meet no arithmetic.
const EXPOSED: f64 = 0.1;
/// Seconds from the end of one kernel to the start of the next in a stream or graph.
const LAUNCH_GAP: f64 = 1e-6;
/// The same where the next one is there already and waits ([`Properties::launches_programmatically`]):
/// launch, barriers and tensor maps are behind it. An assumption.
const PROGRAMMATIC_GAP: f64 = 0.5e-6;
/// For a driver that does not say: A100's clock in Hz ...
const DEFAULT_CLOCK: f64 = 1.41e9;
/// ... and its memory's bandwidth in bytes a second.
const DEFAULT_BANDWIDTH: f64 = 1.555e12;

/// Estimated seconds of one launch of `kernel`. Infinite if the GPU cannot hold it, so that such a kernel is
/// never chosen.
///
/// [The module](self) says how.
pub fn seconds(kernel: &Kernel, placement: Placement, work: &Work, gpu: &Properties) -> f64 {
    if placement.resident == 0 || placement.clusters == 0 {
        return f64::INFINITY;
    }
    if outputs(kernel, work) + if makes_h(kernel) { work.h_items } else { 0 } == 0 {
        return 0.0;
    }
    let (cycles, gap) = match kernel.target {
        Target::Sm80 => (sm80::cycles(kernel, placement.resident, work, gpu), LAUNCH_GAP),
        Target::Sm90a if gpu.launches_programmatically() => {
            (sm90::cycles(kernel, placement, work, gpu), PROGRAMMATIC_GAP)
        }
        Target::Sm90a => (sm90::cycles(kernel, placement, work, gpu), LAUNCH_GAP),
    };
    let clock = if gpu.clock_khz > 0 { f64::from(gpu.clock_khz) * 1e3 } else { DEFAULT_CLOCK };
    let on_chip = cycles / clock;

    let bandwidth = if gpu.memory_bandwidth() > 0.0 { gpu.memory_bandwidth() } else { DEFAULT_BANDWIDTH };
    let memory = bytes(kernel, work) / bandwidth;
    on_chip.max(memory) + EXPOSED * on_chip.min(memory) + gap
}

/// What crosses the bus to device memory: every operand once.
fn bytes(kernel: &Kernel, work: &Work) -> f64 {
    let [m, n, k] = [work.m, work.n, work.k].map(f64::from);
    let (x, w, y) = (m * k, n * k, m * n);
    let (a, b, h) = (work.rank * k, work.rank * n, work.rank * m);
    let elements = match kernel.operation {
        Operation::Gemm | Operation::GemmSplitK => x + w + y,
        Operation::Fused | Operation::FusedRecompute | Operation::FusedCooperative => x + w + y + a + b,
        Operation::Shrink => x + a + h,
        Operation::Expand => h + b + 2.0 * y,
    };
    2.0 * elements
}

#[cfg(test)]
mod sm90_tests;
#[cfg(test)]
pub(crate) mod tests;

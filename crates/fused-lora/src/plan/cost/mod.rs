//! Which kernel is the fastest for a call: [`seconds`] estimates each by two sets of constants, and a plan
//! takes the one that is the least slower than the fastest, whichever set is right.
//!
//! The model ranks the variants of one operation. It does not predict times: nothing in it was fitted to a
//! GPU. All that it takes from data sheets, published measurements and the kernels' own source stands in one
//! table, [`Constants`], with its origin, in two sets: an optimistic and a pessimistic one.
//!
//! A launch takes the cycles of its busiest SM, or as long as device memory needs for every operand once,
//! whichever is more, and a part of the other:
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

mod chip;
mod constants;
mod limit;
mod seconds;
pub mod sm80;
pub mod sm90;
mod work;

use fused_lora_kernels::table::{Kernel, Operation, Target};

use super::properties::Properties;
use chip::{bandwidth, clock};
pub use constants::{Constants, OPTIMISTIC, PESSIMISTIC};
pub use limit::limit;
pub use seconds::Seconds;
pub use work::{Placement, Work};
pub(crate) use work::{cluster_items, makes_h, outputs};

/// Estimated seconds of one launch of `kernel`, by both sets of constants. Infinite if the GPU cannot hold
/// it, so that such a kernel is never chosen.
///
/// [The module](self) says how.
pub fn seconds(kernel: &Kernel, placement: Placement, work: &Work, gpu: &Properties) -> Seconds {
    if placement.resident == 0 || placement.clusters == 0 {
        return Seconds::INFINITE;
    }
    if outputs(kernel, work) + if makes_h(kernel) { work.h_items } else { 0 } == 0 {
        return Seconds::default();
    }
    let by = |constants| by(constants, kernel, placement, work, gpu);
    Seconds { optimistic: by(&OPTIMISTIC), pessimistic: by(&PESSIMISTIC) }
}

/// By one set, of a kernel that the GPU holds and that has something to do.
fn by(constants: &Constants, kernel: &Kernel, placement: Placement, work: &Work, gpu: &Properties) -> f64 {
    let cycles = match kernel.target {
        Target::Sm80 => sm80::cycles(constants, kernel, placement.resident, work, gpu),
        Target::Sm90a => sm90::cycles(constants, kernel, placement, work, gpu),
    };
    let programmatic = kernel.target == Target::Sm90a && gpu.launches_programmatically();
    let gap = if programmatic { constants.programmatic_gap } else { constants.launch_gap };
    let on_chip = cycles / clock(constants, gpu);
    let memory = bytes(kernel, work) / bandwidth(gpu);
    on_chip.max(memory) + constants.exposed * on_chip.min(memory) + gap
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
mod regret_tests;
#[cfg(test)]
mod sm90_tests;
#[cfg(test)]
pub(crate) mod tests;

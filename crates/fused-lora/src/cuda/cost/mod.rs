//! Which kernel is the fastest for a call: [`seconds`] estimates each, and the least wins.
//!
//! The model ranks the variants of one operation. It is not a promise of a time: nothing in it was fitted to
//! a GPU, its constants are those of data sheets, of published measurements and of the kernels' own source, each with
//! its origin.
//!
//! A launch takes the cycles of its busiest SM at the GPU's highest clock, or as long as device memory needs for every
//! operand once, whichever is more; of the other a part shows, too:
//!
//! ```text
//! seconds = max(on chip, memory) + 0.1 · min(on chip, memory) + gap between launches
//! ```
//!
//! `unfused` is the sum of three. How many cycles a kernel's busiest SM takes, its own model says:
//!
//! | kernels for | model |
//! |---|---|
//! | compute capability 8.0 and later: `mma.sync`, `cp.async`, several CTAs on an SM | [`sm80`] |
//! | compute capability 9.0: `wgmma`, tensor copies, warp specialisation, clusters | [`sm90`] |
//!
//! The consequences, as tables: see `choices` in this module's tests.

pub mod sm80;
pub mod sm90;

use fused_lora_kernels::table::{Kernel, Operation, Target};

use super::properties::Properties;

/// Cycles before the first step: launch, ticket, tables, the ring's first slots.
const PROLOGUE: f64 = 1500.0;
/// Bytes per cycle that an SM's shared memory takes or gives (*CUDA C++ Programming Guide*, compute
/// capabilities: 32 banks of 4 bytes).
const SHARED_BYTES_PER_CYCLE: f64 = 128.0;
/// How much of the shorter of arithmetic and memory traffic shows beside the longer: a launch's first loads
/// and last stores meet no arithmetic.
const EXPOSED: f64 = 0.1;
/// Seconds from the end of one kernel to the start of the next in a stream or graph.
const LAUNCH_GAP: f64 = 1e-6;
/// The same where the next one is there already and waits ([`Properties::launches_programmatically`]): launch, barriers
/// and tensor maps are behind it. An assumption.
const PROGRAMMATIC_GAP: f64 = 0.5e-6;
/// For a driver that does not say: A100's clock in Hz ...
const DEFAULT_CLOCK: f64 = 1.41e9;
/// ... and its memory's bandwidth in bytes a second.
const DEFAULT_BANDWIDTH: f64 = 1.555e12;

/// What a kernel is asked to compute, as far as its time depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Rows of x.
    pub m: u32,
    /// Rows of W.
    pub n: u32,
    /// Columns of x.
    pub k: u32,
    /// Columns of h that a tile of y needs, r₁₆ of all adapters in its rows together, on the average.
    pub rank: f64,
    /// Tiles of h, in the kernel's own shape.
    pub h_items: u64,
    /// Columns of h, over all of those tiles.
    pub h_columns: u64,
}

/// How a kernel is launched, and how much of it the GPU holds at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// CTAs of a cluster; 1 without clusters.
    pub cluster: u32,
    /// Clusters of that size on the GPU.
    pub clusters: u32,
    /// CTAs on an SM.
    pub resident: u32,
}

/// Estimated seconds of one launch of `kernel`. Infinite where the GPU holds none of it, so that no such
/// kernel is ever the least.
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

/// Rows and columns of y in tiles.
fn tiles(kernel: &Kernel, work: &Work) -> (u64, u64) {
    (u64::from(work.m.div_ceil(kernel.block_m)), u64::from(work.n.div_ceil(kernel.block_n)))
}

/// Tiles of y.
pub(super) fn outputs(kernel: &Kernel, work: &Work) -> u64 {
    let (row_tiles, column_tiles) = tiles(kernel, work);
    if kernel.operation == Operation::Shrink { 0 } else { row_tiles * column_tiles }
}

/// What the clusters of a launch share among them: groups of as many tiles of a row tile as a cluster has CTAs; a tile
/// where its CTAs share one.
pub(super) fn cluster_items(kernel: &Kernel, cluster: u32, work: &Work) -> u64 {
    let (row_tiles, column_tiles) = tiles(kernel, work);
    match kernel.operation {
        Operation::Shrink => 0,
        Operation::GemmSplitK => row_tiles * column_tiles,
        _ => row_tiles * column_tiles.div_ceil(u64::from(cluster.max(1))),
    }
}

/// Whether a kernel has tiles of h among its items.
pub(super) fn makes_h(kernel: &Kernel) -> bool {
    matches!(kernel.operation, Operation::Fused | Operation::Shrink)
}

/// How many tiles of y, and how many of h, the busiest of `places` gets that take one after another: h goes first to
/// those that have one tile less, then to all.
fn busiest(places: u64, outputs: u64, h_items: u64) -> (u64, u64) {
    let places = places.max(1);
    let y = outputs.div_ceil(places);
    (y, h_items.saturating_sub(y * places - outputs).div_ceil(places))
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

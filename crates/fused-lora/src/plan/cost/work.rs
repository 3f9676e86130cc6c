//! The work of a launch, and how it is shared among the SMs.

use fused_lora_kernels::table::{Kernel, Operation};

/// The work of a kernel, as far as its time depends on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Rows of x.
    pub m: u32,
    /// Rows of W.
    pub n: u32,
    /// Columns of x.
    pub k: u32,
    /// Columns of h that a tile of y needs, the sum of r₁₆ of all adapters in its rows, averaged over row
    /// tiles.
    pub rank: f64,
    /// Tiles of h, in the kernel's own shape.
    pub h_items: u64,
    /// Columns of h, over all of those tiles.
    pub h_columns: u64,
}

/// How a kernel is launched, and how many clusters and CTAs the GPU holds at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// CTAs in a cluster; 1 without clusters.
    pub cluster: u32,
    /// Clusters of that size on the GPU.
    pub clusters: u32,
    /// CTAs on an SM.
    pub resident: u32,
}

/// Rows and columns of y in tiles.
fn tiles(kernel: &Kernel, work: &Work) -> (u64, u64) {
    (u64::from(work.m.div_ceil(kernel.block_m)), u64::from(work.n.div_ceil(kernel.block_n)))
}

/// Tiles of y.
pub(crate) fn outputs(kernel: &Kernel, work: &Work) -> u64 {
    let (row_tiles, column_tiles) = tiles(kernel, work);
    if kernel.operation == Operation::Shrink { 0 } else { row_tiles * column_tiles }
}

/// What the clusters of a launch share among them: groups of as many tiles of a row tile as a cluster has
/// CTAs; a tile where its CTAs share one.
pub(crate) fn cluster_items(kernel: &Kernel, cluster: u32, work: &Work) -> u64 {
    let (row_tiles, column_tiles) = tiles(kernel, work);
    match kernel.operation {
        Operation::Shrink => 0,
        Operation::GemmSplitK => row_tiles * column_tiles,
        _ => row_tiles * column_tiles.div_ceil(u64::from(cluster.max(1))),
    }
}

/// Whether a kernel has tiles of h among its items.
pub(crate) fn makes_h(kernel: &Kernel) -> bool {
    matches!(kernel.operation, Operation::Fused | Operation::Shrink)
}

/// How many tiles of y, and how many of h, the busiest of `places` gets that take one after another: h goes
/// first to those that have one tile less, then to all.
pub(super) fn busiest(places: u64, outputs: u64, h_items: u64) -> (u64, u64) {
    let places = places.max(1);
    let y = outputs.div_ceil(places);
    (y, h_items.saturating_sub(y * places - outputs).div_ceil(places))
}

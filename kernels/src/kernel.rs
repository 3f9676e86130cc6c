//! What a launcher must know of an entry.

/// What a kernel's code is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Compute capability 8.0 and everything later. Launched with [`Params`](crate::params::Params).
    Sm80,
    /// Compute capability 9.0 alone. Launched with [`TensorParams`](crate::tensor_map::TensorParams), x, W,
    /// y, A and B by tensor maps.
    Sm90a,
}

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `y = x Wᵀ`.
    Gemm,
    /// The same, one tile of y for each cluster of 2, 4 or 8 CTAs (up to `block_n` / 16, and up to K / 64
    /// rounded up), which share its K. The grid has exactly as many clusters as there are tiles.
    GemmSplitK,
    /// Base, shrink and expand in one launch, h shared between CTAs.
    Fused,
    /// The same, every CTA makes its own h: row tiles with one segment that has an adapter at most, of rank
    /// `h` at most.
    FusedRecompute,
    /// The same, the CTAs of a cluster make h together: row tiles of up to [`Kernel::max_rank`] columns of h,
    /// and of up to `h` for each CTA of the cluster. Each makes its own columns, or sums its own part of K
    /// ([`Kernel::slices_k`]).
    FusedCooperative,
    /// `h = s · x Aᵀ`.
    Shrink,
    /// `y += h Bᵀ`.
    Expand,
}

/// An entry.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// Its name in the PTX.
    pub name: &'static str,
    /// What it is compiled for.
    pub target: Target,
    /// What it computes.
    pub operation: Operation,
    /// Whether x must be a multiple of 16 bytes with a row stride that is a multiple of 8.
    pub aligned: bool,
    /// Rows of a tile.
    pub block_m: u32,
    /// Columns of a tile.
    pub block_n: u32,
    /// Steps of K in a slot of the ring.
    pub block_k: u32,
    /// Slots of the ring.
    pub stages: u32,
    /// Columns of h that each CTA makes for itself, or for its cluster.
    pub h: u32,
    /// Columns of h that a row tile may have, all its segments' together, each rounded up to the granule; 0
    /// for any number.
    pub max_rank: u32,
    /// Columns of h in a work item of the shrink.
    pub h_columns: u32,
    /// Threads of a CTA: its only launch bound that is exact.
    pub threads: u32,
    /// CTAs that must fit on an SM as far as registers go.
    pub min_ctas: u32,
    /// Registers a thread may have; the build fails above.
    pub max_registers: u32,
    /// Instructions that a step of K may have, in a loop of the consumers and in one of the producer; the
    /// build fails above. Of the kernels for compute capability 9.0.
    pub max_step: Option<[u32; 2]>,
    /// Dynamic shared memory, in bytes.
    pub shared_bytes: u32,
}

impl Kernel {
    /// Whether it may be launched in clusters of 2, 4 or 8 CTAs, which then share x. (Split-K always is, and
    /// does not; with [`slices_k`](Self::slices_k) it always is, of 2 or 4.)
    #[must_use]
    pub const fn clusters(&self) -> bool {
        matches!(self.target, Target::Sm90a)
            && matches!(self.operation, Operation::Gemm | Operation::FusedCooperative)
    }

    /// Whether the CTAs of a cluster, 2 up to [`MAX_SLICES`](crate::sm90_tile::MAX_SLICES), share the K of h, all
    /// of whose columns each makes.
    #[must_use]
    pub const fn slices_k(&self) -> bool {
        matches!(self.operation, Operation::FusedCooperative) && self.max_rank == self.h
    }

    /// Rows of a box of A in [`TensorMaps`](crate::tensor_map::TensorMaps).
    #[must_use]
    pub const fn a_rows(&self) -> u32 {
        match self.operation {
            Operation::FusedCooperative => crate::tile::RANK_GRANULE,
            _ => self.h_columns,
        }
    }
}

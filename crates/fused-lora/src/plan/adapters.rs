//! The adapters of a call, whether it is one for all rows or a table and segments.

use fused_lora_kernels::{
    Global,
    params::Lora,
    sm90_tile::{BLOCK_K, MAX_CHUNKS},
    table::{Kernel, Operation, Target},
};

use super::{assignment::Assignment, layout::Layout, sizes::rank16};

/// The adapters of a call, as far as a plan and the kernels' parameters depend on them.
#[derive(Clone, Copy)]
pub(crate) enum Adapters<'a> {
    /// The base product.
    None,
    /// One for all rows: slabs and `uniform`, whose rank is above 0.
    Uniform(Lora),
    /// Slabs, table and the address of the assignment, which gives at least one row an adapter.
    Batch(Lora, &'a Assignment),
}

/// The tiles of h that a kernel has to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct HWork {
    /// Work items of the shrink.
    pub(crate) items: u64,
    /// Columns of h, over all of them.
    pub(crate) columns: u64,
}

/// Adapters, as far as a plan depends on them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Signature {
    /// One for all rows, of this r₁₆; 0 for none.
    Uniform(u32),
    /// The assignment of this number.
    Batch(u64),
}

impl<'a> Adapters<'a> {
    pub(crate) fn signature(self) -> Signature {
        match self {
            Self::None | Self::Uniform(_) => Signature::Uniform(self.max_rank16()),
            Self::Batch(_, assignment) => Signature::Batch(assignment.id),
        }
    }

    pub(crate) fn uniform(lora: Lora) -> Self {
        if lora.uniform.rank > 0 { Self::Uniform(lora) } else { Self::None }
    }

    pub(crate) fn batch(lora: Lora, assignment: &'a Assignment) -> Self {
        if assignment.max_rank16 > 0 { Self::Batch(lora, assignment) } else { Self::None }
    }

    pub(crate) fn is_none(self) -> bool {
        matches!(self, Self::None)
    }

    /// The largest r₁₆: columns of h in the workspace.
    pub(crate) fn max_rank16(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Uniform(lora) => rank16(lora.uniform.rank),
            Self::Batch(_, assignment) => assignment.max_rank16,
        }
    }

    /// Columns of h that a row tile has, those of all its segments together, on the average over row tiles.
    pub(crate) fn rank_of_tiles(self, kernel: &Kernel, m: u32) -> f64 {
        let columns = self.h_work(kernel, m).columns;
        columns as f64 / f64::from(m.div_ceil(kernel.block_m).max(1))
    }

    /// Columns of h in the workspace, as the kernel lays it out: that of a row tile's segments side by side
    /// for those of compute capability 9.0, each segment's from the first column on otherwise.
    pub(crate) fn ldh(self, kernel: &Kernel) -> u32 {
        match (kernel.target, self) {
            (Target::Sm90a, Self::Batch(_, assignment)) => {
                assignment.tiles(kernel).map_or(0, |tiles| tiles.most_columns)
            }
            _ => self.max_rank16(),
        }
    }

    /// The tiles of h of a call with `m` rows, in the shape of the kernel's.
    pub(crate) fn h_work(self, kernel: &Kernel, m: u32) -> HWork {
        match self {
            Self::None => HWork::default(),
            Self::Uniform(_) => {
                let (row_tiles, rank16) = (u64::from(m.div_ceil(kernel.block_m)), self.max_rank16());
                HWork {
                    items: row_tiles * u64::from(rank16.div_ceil(kernel.h_columns)),
                    columns: row_tiles * u64::from(rank16),
                }
            }
            Self::Batch(_, assignment) => assignment.tiles(kernel).map_or(HWork::default(), |tiles| HWork {
                items: u64::from(tiles.h_items),
                columns: tiles.columns,
            }),
        }
    }

    /// Whether a kernel, in clusters of so many CTAs, computes what these adapters ask for.
    pub(crate) fn suit(self, kernel: &Kernel, cluster: u32) -> bool {
        match (kernel.operation, kernel.target) {
            // Room for one segment in a row tile, and for so many columns.
            (Operation::FusedRecompute, _) => {
                let one_segment = match self {
                    Self::None | Self::Uniform(_) => true,
                    Self::Batch(_, assignment) => {
                        assignment.tiles(kernel).is_some_and(|tiles| tiles.most_segments <= 1)
                    }
                };
                one_segment && self.max_rank16() <= kernel.h
            }
            (Operation::FusedCooperative, _) => {
                self.ldh(kernel) <= kernel.max_rank.min(kernel.h.saturating_mul(cluster))
            }
            (Operation::Fused, Target::Sm90a) => {
                // What a CTA has room for on its board. With as many columns as that at most, since steps are
                // of up to BLOCK_K of one segment.
                let steps = match self {
                    Self::Batch(_, assignment) => {
                        assignment.tiles(kernel).map_or(0, |tiles| tiles.most_steps)
                    }
                    _ => self.max_rank16().div_ceil(BLOCK_K),
                };
                steps <= MAX_CHUNKS
            }
            _ => true,
        }
    }

    /// The kernel's parameters for a call with `m` rows, with the workspace at `layout`.
    pub(crate) fn lora(self, kernel: &Kernel, m: u32, layout: Layout) -> Lora {
        let lora = match self {
            Self::None => Lora::default(),
            Self::Uniform(lora) => lora,
            Self::Batch(lora, assignment) => {
                let offset = assignment.tiles(kernel).map_or(0, |tiles| tiles.offset as u64);
                let row_tiles = Global::from_address(lora.segments.address() + offset);
                Lora { row_tiles, segment_count: assignment.segments.len() as u32, ..lora }
            }
        };
        Lora {
            h: layout.h,
            counters: layout.counters,
            ldh: self.ldh(kernel),
            // Not above the number of all work items, which the plan has counted.
            h_items: self.h_work(kernel, m).items as u32,
            ..lora
        }
    }
}

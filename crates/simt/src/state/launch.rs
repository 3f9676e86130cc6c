//! The launches of a run, and who waits for them.

use std::{rc::Rc, sync::Arc};

use crate::{clock::View, source::Source, state::lane::LaneRef};

/// The dimensions of a launch. CTAs are numbered cluster by cluster, x first; so are those of a cluster, and
/// lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) grid: [u32; 3],
    pub(crate) block: [u32; 3],
    pub(crate) cluster: [u32; 3],
}

/// The place with a number in these dimensions.
fn place(number: u32, dims: [u32; 3]) -> [u32; 3] {
    [number % dims[0], number / dims[0] % dims[1], number / dims[0] / dims[1]]
}

impl Shape {
    /// Clusters in each dimension.
    pub(crate) fn clusters(&self) -> [u32; 3] {
        std::array::from_fn(|dim| self.grid[dim] / self.cluster[dim])
    }

    /// Where a cluster lies among these.
    pub(crate) fn cluster_of(&self, cta: u32) -> [u32; 3] {
        place(cta / self.cluster.iter().product::<u32>(), self.clusters())
    }

    /// Where a CTA lies in its cluster.
    pub(crate) fn in_cluster(&self, cta: u32) -> [u32; 3] {
        place(cta % self.cluster.iter().product::<u32>(), self.cluster)
    }

    /// Where a CTA lies in the grid.
    pub(crate) fn cta(&self, cta: u32) -> [u32; 3] {
        let (cluster, within) = (self.cluster_of(cta), self.in_cluster(cta));
        std::array::from_fn(|dim| cluster[dim] * self.cluster[dim] + within[dim])
    }

    /// Where a lane lies in its CTA.
    pub(crate) fn lane(&self, lane: u32) -> [u32; 3] {
        place(lane, self.block)
    }
}

/// A launch of the run.
pub(crate) struct LaunchInfo {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) grid: u32,
    pub(crate) block: u32,
    pub(crate) shared_bytes: usize,
    pub(crate) cluster: u32,
    pub(crate) registers: u32,
    pub(crate) programmatic: bool,
    /// The PTX module that it is of.
    pub(crate) source: Option<Arc<Source>>,
    /// The number of its first CTA among all CTAs of the run.
    pub(crate) first_cta: u32,
    /// CTAs that were not dispatched yet, and that have not ended yet.
    pub(crate) undispatched: u32,
    pub(crate) running: u32,
    /// What the end of all launches before it publishes, once it was asked for.
    pub(crate) boundary: Option<Rc<View>>,
}

/// A lane that waits for the launches before its own.
pub(crate) struct Dependent {
    pub(crate) lane: LaneRef,
    pub(crate) launch: usize,
    pub(crate) relaxed: bool,
}

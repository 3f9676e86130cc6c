//! Barriers beyond a warp: those of `bar.sync id`, and that of a cluster.

use std::rc::Rc;

use smallvec::SmallVec;

use crate::clock::View;

/// A barrier of `bar.sync id, threads`.
#[derive(Default)]
pub(crate) struct Named {
    /// How many lanes it is for, by the first warp that has come.
    pub(crate) threads: u32,
    /// How many have come, and what those that do not wait published.
    pub(crate) arrived: u32,
    pub(crate) published: Option<View>,
    /// Those that wait.
    pub(crate) warps: SmallVec<[usize; 8]>,
}

/// The barrier of a cluster.
pub(crate) struct ClusterBarrier {
    /// The slots of its CTAs, by rank.
    pub(crate) peers: Rc<[usize]>,
    pub(crate) phase: u32,
    /// What those that have arrived in this phase published.
    pub(crate) arrived: Option<View>,
    /// What those of the phase before published.
    pub(crate) done: Option<Rc<View>>,
    /// Warps that wait for the end of this phase: slot and warp.
    pub(crate) waiting: Vec<(usize, usize)>,
}

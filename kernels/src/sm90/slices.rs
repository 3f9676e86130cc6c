//! Which steps of K a CTA of a cluster multiplies by A, where the cluster shares them.

use super::{cluster::Cluster, ring::NONE};

/// Which steps of K a CTA multiplies by A: every one of so many.
pub(super) struct Slices {
    /// Steps of others before the next one of its own.
    before: u32,
    /// Of a consumer: the slot whose products may still be under way, where its threads have read x; else
    /// [`NONE`].
    pub held: u32,
    cluster: Cluster,
}

impl Slices {
    /// Before the first step of a tile.
    #[inline(always)]
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { before: cluster.rank(), held: NONE, cluster }
    }

    /// There is none left.
    #[inline(always)]
    pub(super) fn end(&mut self) {
        self.before = u32::MAX;
    }

    /// Whether the next step is this CTA's; goes on to the one after it.
    #[inline(always)]
    pub(super) fn next_is_own(&mut self) -> bool {
        let is_own = self.before == 0;
        self.before = if is_own { self.cluster.size() - 1 } else { self.before - 1 };
        is_own
    }
}

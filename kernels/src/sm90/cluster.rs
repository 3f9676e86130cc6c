//! The cluster that a CTA runs in.

use crate::device::{cluster_ctarank, cluster_nctarank};

/// The hardware's cluster that this CTA runs in: CTAs that share a row tile, or a tile's K.
///
/// It is made from the hardware's registers and in no other way: a rank is what `mapa` takes for one.
#[derive(Clone, Copy)]
pub(super) struct Cluster {
    rank: u32,
    size: u32,
}

impl Cluster {
    #[inline(always)]
    pub(super) fn new() -> Self {
        Self { rank: cluster_ctarank(), size: cluster_nctarank() }
    }

    /// Which of its CTAs this one is.
    #[inline(always)]
    pub(super) fn rank(self) -> u32 {
        self.rank
    }

    /// How many CTAs it has.
    #[inline(always)]
    pub(super) fn size(self) -> u32 {
        self.size
    }

    /// A bit for each of its CTAs.
    #[inline(always)]
    pub(super) fn all(self) -> u16 {
        ((1u32 << self.size) - 1) as u16
    }
}

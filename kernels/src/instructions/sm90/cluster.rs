//! Clusters: who is where, and their barrier.

use super::staging::{next_rank, sync_cluster};
use crate::{
    device::{self, block_idx_x},
    instructions::item::Item,
};

macro_rules! number {
    ($(#[$attr:meta])* $name:ident) => {
        $(#[$attr])*
        #[inline(always)]
        pub(in crate::instructions) unsafe fn $name(item: Item) {
            // SAFETY: one word of each lane.
            unsafe { item.set(item.lane, device::$name()) }
        }
    };
}

number! {
    /// Gives `%cluster_ctarank`, as each lane sees it.
    cluster_ctarank
}
number! {
    /// Gives `%cluster_nctarank`, as each lane sees it.
    cluster_nctarank
}
number! {
    /// Gives `%clusterid.x`, as each lane sees it.
    clusterid_x
}
number! {
    /// Gives `%nclusterid.x`, as each lane sees it.
    nclusterid_x
}

/// Lanes of a CTA.
const LANES: u32 = 64;

/// Words go from CTA to CTA through global memory, by weak accesses, and only the barrier orders that. Input:
/// a word of each lane. Output: the same; then, of each lane, that of the opposite lane in the next CTA of
/// the cluster.
#[inline(always)]
pub(in crate::instructions) unsafe fn barrier_cluster(item: Item) {
    let peer = block_idx_x() - device::cluster_ctarank() + next_rank();
    let peers = item.outputs.offset(u64::from(peer * 2 * LANES));
    // SAFETY: each lane stores its own words, and loads those of the peer behind the barrier, to which all
    // come.
    unsafe {
        item.set(item.lane, item.get(item.lane));
        sync_cluster();
        item.set(LANES + item.lane, peers.offset(u64::from(LANES - 1 - item.lane)).load());
    }
}

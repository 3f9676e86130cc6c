//! Copies by the copy engine. PTX ISA, "cp.async.bulk", "cp.async.bulk.tensor".
//!
//! They run in the *async proxy*. A load is complete when its bytes have landed at its barrier; a store's
//! group is waited for by the thread that issued it. Coordinates are (column, row) in elements; what a box
//! has outside of the tensor is filled with zeros by a load, whose bytes count all the same, and left out by
//! a store.

use core::arch::asm;

use super::{ClusterAddr, SharedAddr, instruction::instructions};
use crate::maps::TensorMapRef;

instructions! {
    /// `cp.async.bulk.tensor.2d` from global to this CTA's shared memory: starts copying the map's box from
    /// (`column`, `row`) on.
    ///
    /// # Safety
    ///
    /// The map's tensor is readable; `to`, a multiple of the swizzle's pattern, has the box's bytes, which
    /// nobody touches until the barrier's phase is over; generic accesses to them are fenced; `barrier` is of
    /// this CTA and expects the bytes.
    pub unsafe fn load_box(to: SharedAddr, map: TensorMapRef, column: u32, row: u32, barrier: SharedAddr) {
        asm!(
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes \
             [{0}], [{1}, {{{2}, {3}}}], [{4}];",
            in(reg32) to.address(), in(reg64) map.address(), in(reg32) column, in(reg32) row,
            in(reg32) barrier.address(),
            options(nostack),
        )
    }

    /// The same to several CTAs of the cluster: to the same place in each whose bit is set in `ctas`, its
    /// bytes counted at the barrier in the same place there.
    ///
    /// # Safety
    ///
    /// As [`load_box`] in each of these CTAs, which have started and not ended.
    pub unsafe fn load_box_multicast(
        to: SharedAddr, map: TensorMapRef, column: u32, row: u32, barrier: SharedAddr, ctas: u16,
    ) {
        asm!(
            "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes\
             .multicast::cluster [{0}], [{1}, {{{2}, {3}}}], [{4}], {5};",
            in(reg32) to.address(), in(reg64) map.address(), in(reg32) column, in(reg32) row,
            in(reg32) barrier.address(), in(reg16) ctas,
            options(nostack),
        )
    }

    /// `cp.async.bulk.tensor.2d` from this CTA's shared memory to global: starts storing the map's box from
    /// (`column`, `row`) on; part of this thread's next group.
    ///
    /// # Safety
    ///
    /// The map's tensor is writable and the box this thread's; the bytes at `from` are fenced for the async
    /// proxy and stay until the group's reads are waited for.
    pub unsafe fn store_box(map: TensorMapRef, column: u32, row: u32, from: SharedAddr) {
        asm!(
            "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [{0}, {{{1}, {2}}}], [{3}];",
            in(reg64) map.address(), in(reg32) column, in(reg32) row, in(reg32) from.address(),
            options(nostack),
        )
    }

    /// `cp.async.bulk.commit_group`: the stores that this thread started since the last one become a group.
    ///
    /// # Safety
    ///
    /// None beyond that of the stores.
    pub unsafe fn bulk_commit_group() {
        asm!("cp.async.bulk.commit_group;", options(nostack))
    }

    /// `cp.async.bulk.wait_group.read PENDING`: waits until all but the newest PENDING groups of this thread
    /// have read their shared memory.
    ///
    /// # Safety
    ///
    /// None beyond that of the stores.
    pub unsafe fn bulk_wait_group_read<const PENDING: u32>() {
        asm!("cp.async.bulk.wait_group.read {0};", const PENDING, options(nostack))
    }

    /// `cp.async.bulk` from this CTA's shared memory to that of a CTA of the cluster: starts copying `bytes`,
    /// which count at `barrier`, of the same CTA as `to`.
    ///
    /// # Safety
    ///
    /// All three multiples of 16 (the barrier of 8); the bytes at `from` are fenced for the async proxy and
    /// stay until the copy is known to be over; those at `to` are touched by nobody until the barrier's phase
    /// is over; the CTA has started and not ended.
    pub unsafe fn copy_to_cluster(to: ClusterAddr, from: SharedAddr, bytes: u32, barrier: ClusterAddr) {
        asm!(
            "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes \
             [{0}], [{1}], {2}, [{3}];",
            in(reg32) to.address(), in(reg32) from.address(), in(reg32) bytes, in(reg32) barrier.address(),
            options(nostack),
        )
    }

    /// `prefetch.tensormap`: fetches a map, so that the first copy does not wait for it.
    ///
    /// # Safety
    ///
    /// The map is there.
    pub unsafe fn prefetch_tensor_map(map: TensorMapRef) {
        asm!("prefetch.tensormap [{0}];", in(reg64) map.address(), options(nostack))
    }
}

//! Bulk and tensor copies.

use std::panic::Location;

use smallvec::SmallVec;

use super::execute::{execute, flipped};
use crate::{exec::cluster::in_cta, fault::Action, site::Op, state::transfer::Reduction, tensor_map::RANK};

fn at_signed(at: &[u32]) -> SmallVec<[i32; RANK]> {
    at.iter().map(|at| at.cast_signed()).collect()
}

fn more(action: Option<Action>) -> u32 {
    if let Some(Action::WaitGroup(more)) = action { more } else { 0 }
}

/// `cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes` into this CTA: the box
/// whose first element is at column `at[0]`, row `at[1]`, which are signed.
#[track_caller]
pub fn cp_async_bulk_tensor_2d_load(to: u32, map: &[u64; 16], at: [u32; 2], bar: u32) {
    tensor_load(to, map, &at, bar);
}

/// Likewise of any number of dimensions.
#[track_caller]
pub(crate) fn tensor_load(to: u32, map: &[u64; 16], at: &[u32], bar: u32) {
    execute(Op::CpAsyncBulkTensor2dLoad, Location::caller(), (), |run, site, action| {
        run.tensor_load(site, action, flipped(to, action), map, &at_signed(at), bar, None)
    });
}

/// Likewise with `.multicast::cluster`: into each CTA of the cluster whose bit is set, at the same address,
/// each time reported to that CTA's own mbarrier.
#[track_caller]
pub fn cp_async_bulk_tensor_2d_load_multicast(to: u32, map: &[u64; 16], at: [u32; 2], bar: u32, ctas: u16) {
    tensor_load_multicast(to, map, &at, bar, ctas);
}

/// Likewise of any number of dimensions.
#[track_caller]
pub(crate) fn tensor_load_multicast(to: u32, map: &[u64; 16], at: &[u32], bar: u32, ctas: u16) {
    execute(Op::CpAsyncBulkTensor2dLoadMulticast, Location::caller(), (), |run, site, action| {
        let ctas = if let Some(Action::MaskXor(bits)) = action { ctas ^ bits } else { ctas };
        run.tensor_load(site, action, flipped(to, action), map, &at_signed(at), bar, Some(ctas))
    });
}

/// `cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group`.
#[track_caller]
pub fn cp_async_bulk_tensor_2d_store(map: &[u64; 16], at: [u32; 2], from: u32) {
    tensor_store(map, &at, from, None);
}

/// Likewise of any number of dimensions.
#[track_caller]
pub(crate) fn tensor_store(map: &[u64; 16], at: &[u32], from: u32, reduction: Option<Reduction>) {
    execute(Op::CpAsyncBulkTensor2dStore, Location::caller(), (), |run, site, action| {
        run.tensor_store(site, map, &at_signed(at), flipped(from, action), reduction)
    });
}

/// `cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes` into this CTA.
#[track_caller]
pub(crate) fn bulk_load(to: u32, from: u64, bytes: u32, bar: u32) {
    execute(Op::CpAsyncBulkLoad, Location::caller(), (), |run, site, action| {
        run.bulk_load(site, action, flipped(to, action), from, bytes, bar)
    });
}

/// `cp.async.bulk.global.shared::cta.bulk_group`, or `cp.reduce.async.bulk`.
#[track_caller]
pub(crate) fn bulk_store(to: u64, from: u32, bytes: u32, reduction: Option<Reduction>) {
    execute(Op::CpAsyncBulkStore, Location::caller(), (), |run, site, action| {
        run.bulk_store(site, to, flipped(from, action), bytes, reduction)
    });
}

/// `cp.async.bulk.commit_group`.
#[track_caller]
pub fn cp_async_bulk_commit_group() {
    execute(Op::CpAsyncBulkCommitGroup, Location::caller(), (), |run, _, _| {
        run.bulk_commit_group();
        Ok(())
    });
}

/// `cp.async.bulk.wait_group`.
#[track_caller]
pub fn cp_async_bulk_wait_group(pending: u32) {
    execute(Op::CpAsyncBulkWaitGroup, Location::caller(), (), |run, _, action| {
        run.bulk_wait_group(pending.saturating_add(more(action)), false);
        Ok(())
    });
}

/// `cp.async.bulk.wait_group.read`.
#[track_caller]
pub fn cp_async_bulk_wait_group_read(pending: u32) {
    execute(Op::CpAsyncBulkWaitGroupRead, Location::caller(), (), |run, _, action| {
        run.bulk_wait_group(pending.saturating_add(more(action)), true);
        Ok(())
    });
}

/// `cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes`; `to` and `bar` are addresses of
/// the cluster, in one CTA.
#[track_caller]
pub fn cp_async_bulk_shared_cluster(to: u32, from: u32, bytes: u32, bar: u32) {
    execute(Op::CpAsyncBulkSharedCluster, Location::caller(), (), |run, site, action| {
        let bytes = match action {
            Some(Action::ByteDelta(delta)) => bytes.saturating_add_signed(delta),
            _ => bytes,
        };
        let [to, bar] = match action {
            Some(Action::Rank(rank)) => [to, bar].map(|address| in_cta(address, rank)),
            _ => [to, bar],
        };
        run.bulk_shared_cluster(site, flipped(to, action), from, bytes, bar)
    });
}

/// `cp.async.bulk.prefetch.tensor`: a hint, of a map that must be one.
#[track_caller]
pub(crate) fn prefetch_tensor(map: &[u64; 16]) {
    execute(Op::CpAsyncBulkPrefetchTensor, Location::caller(), (), |run, site, _| {
        run.tensor_map(site, map).map(|_| ())
    });
}

/// `prefetch.tensormap`.
#[track_caller]
pub fn prefetch_tensormap(map: &[u64; 16]) {
    execute(Op::PrefetchTensormap, Location::caller(), (), |run, site, _| {
        run.tensor_map(site, map).map(|_| ())
    });
}

//! mbarriers and proxy fences.

use std::panic::Location;

use super::execute::{execute, flipped, halt, or_halt};
use crate::{
    clock::Space,
    exec::cluster::in_cta,
    fault::Action,
    scheduler::{suspend, with},
    site::Op,
};

/// `mbarrier.init.shared::cta.b64`.
#[track_caller]
pub fn mbarrier_init(bar: u32, count: u32) {
    execute(Op::MbarrierInit, Location::caller(), (), |run, site, action| {
        let count = match action {
            Some(Action::CountDelta(delta)) => count.saturating_add_signed(delta),
            _ => count,
        };
        run.mbarrier_init(site, flipped(bar, action), count)
    });
}

/// `fence.mbarrier_init.release.cluster`.
#[track_caller]
pub fn fence_mbarrier_init() {
    execute(Op::FenceMbarrierInit, Location::caller(), (), |run, _, _| {
        run.fence_mbarrier_init();
        Ok(())
    });
}

/// `mbarrier.arrive.release.cta.shared::cta.b64`.
#[track_caller]
pub fn mbarrier_arrive(bar: u32) {
    execute(Op::MbarrierArrive, Location::caller(), (), |run, site, action| match action {
        Some(Action::Rank(rank)) => run.mbarrier_arrive_cluster(site, action, in_cta(bar, rank)),
        _ => run.mbarrier_arrive(site, action, flipped(bar, action), 0),
    });
}

/// `mbarrier.arrive.shared::cluster.b64`, of an address of the cluster, with the scope that it has by default, the CTA.
/// So in another CTA it tells only of asynchronous operations that the lane knows to be complete, of nothing that
/// lanes did.
#[track_caller]
pub fn mbarrier_arrive_cluster(bar: u32) {
    execute(Op::MbarrierArriveCluster, Location::caller(), (), |run, site, action| {
        let bar = if let Some(Action::Rank(rank)) = action { in_cta(bar, rank) } else { bar };
        run.mbarrier_arrive_cluster(site, action, flipped(bar, action))
    });
}

/// `mbarrier.arrive.expect_tx.release.cta.shared::cta.b64`.
#[track_caller]
pub fn mbarrier_arrive_expect_tx(bar: u32, bytes: u32) {
    execute(Op::MbarrierArriveExpectTx, Location::caller(), (), |run, site, action| {
        let bytes = match action {
            Some(Action::ByteDelta(delta)) => bytes.saturating_add_signed(delta),
            _ => bytes,
        };
        run.mbarrier_arrive(site, action, flipped(bar, action), bytes)
    });
}

/// `mbarrier.try_wait.parity.acquire.cta.shared::cta.b64`: whether the phase of this parity is complete. It may be
/// false though it is, or will be soon.
#[track_caller]
#[must_use]
pub fn mbarrier_try_wait_parity(bar: u32, parity: u32) -> bool {
    let location = Location::caller();
    let entered = or_halt(with(|run| run.enter(Op::MbarrierTryWaitParity, location, None)));
    let action = entered.action;
    if matches!(action, Some(Action::Drop)) {
        return true;
    }
    // Others go first, as before every strong access.
    with(|run| run.yield_lane());
    suspend();
    let bar = flipped(bar, action);
    let parity = parity ^ u32::from(matches!(action, Some(Action::ParityFlip)));
    let relaxed = matches!(action, Some(Action::Weaken));
    match or_halt(with(|run| run.mbarrier_try_wait(entered.site, bar, parity, relaxed, true))) {
        Some(complete) => complete,
        None => {
            // Set aside until the phase completes, or the time limit of the instruction is over.
            suspend();
            let outcome = with(|run| run.mbarrier_try_wait(entered.site, bar, parity, relaxed, false));
            or_halt(outcome).unwrap_or_else(|| halt())
        }
    }
}

/// `fence.proxy.async.shared::cta`.
#[track_caller]
pub fn fence_proxy_async_shared() {
    execute(Op::FenceProxyAsyncShared, Location::caller(), (), |run, _, _| {
        run.fence_proxy_async(Space::Shared);
        Ok(())
    });
}

/// `fence.proxy.async.global`.
#[track_caller]
pub fn fence_proxy_async_global() {
    execute(Op::FenceProxyAsyncGlobal, Location::caller(), (), |run, _, _| {
        run.fence_proxy_async(Space::Global);
        Ok(())
    });
}

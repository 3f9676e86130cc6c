//! mbarriers and proxy fences.

use std::panic::Location;

use super::execute::{execute, flipped, halt, or_halt};
use crate::{
    clock::Space,
    exec::{
        cluster::in_cta,
        poll::{Phase, Wait},
    },
    fault::Action,
    scheduler::{suspend, with},
    site::Op,
    state::mbarrier::{Arrive, Scope},
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
        Some(Action::Rank(rank)) => run.mbarrier_arrive_cluster(site, action, in_cta(bar, rank), Arrive::ONE),
        _ => run.mbarrier_arrive(site, action, flipped(bar, action), Arrive::ONE).map(|_| ()),
    });
}

/// Any arrival at an mbarrier of the own CTA; gives the state.
#[track_caller]
pub(crate) fn mbarrier_arrive_with(bar: u32, arrive: Arrive, expects: bool) -> u64 {
    let op = if expects { Op::MbarrierArriveExpectTx } else { Op::MbarrierArrive };
    execute(op, Location::caller(), 0, |run, site, action| {
        let bytes = changed_bytes(arrive.bytes, action);
        let arrive = Arrive { bytes, ..arrive };
        match action {
            Some(Action::Rank(rank)) => {
                run.mbarrier_arrive_cluster(site, action, in_cta(bar, rank), arrive).map(|()| 0)
            }
            _ => run.mbarrier_arrive(site, action, flipped(bar, action), arrive),
        }
    })
}

/// Any arrival at an address of the cluster.
#[track_caller]
pub(crate) fn mbarrier_arrive_cluster_with(bar: u32, arrive: Arrive) {
    execute(Op::MbarrierArriveCluster, Location::caller(), (), |run, site, action| {
        let bar = if let Some(Action::Rank(rank)) = action { in_cta(bar, rank) } else { bar };
        run.mbarrier_arrive_cluster(site, action, flipped(bar, action), arrive)
    });
}

/// `mbarrier.inval.shared::cta.b64`.
#[track_caller]
pub(crate) fn mbarrier_inval(bar: u32) {
    execute(Op::MbarrierInval, Location::caller(), (), |run, site, action| {
        run.mbarrier_inval(site, flipped(bar, action))
    });
}

/// `mbarrier.expect_tx.shared::cta.b64`.
#[track_caller]
pub(crate) fn mbarrier_expect_tx(bar: u32, bytes: u32) {
    execute(Op::MbarrierExpectTx, Location::caller(), (), |run, site, action| {
        run.mbarrier_expect_tx(site, flipped(bar, action), changed_bytes(bytes, action))
    });
}

fn changed_bytes(bytes: u32, action: Option<Action>) -> u32 {
    if let Some(Action::ByteDelta(delta)) = action { bytes.saturating_add_signed(delta) } else { bytes }
}

/// `mbarrier.arrive.shared::cluster.b64`, of an address of the cluster, with the scope that it has by
/// default, the CTA. So in another CTA it tells only of asynchronous operations that the lane knows to be
/// complete, of nothing that lanes did.
#[track_caller]
pub fn mbarrier_arrive_cluster(bar: u32) {
    mbarrier_arrive_cluster_with(bar, Arrive::ONE);
}

/// `mbarrier.arrive.expect_tx.release.cta.shared::cta.b64`.
#[track_caller]
pub fn mbarrier_arrive_expect_tx(bar: u32, bytes: u32) {
    mbarrier_arrive_with(bar, Arrive { bytes, ..Arrive::ONE }, true);
}

/// `mbarrier.try_wait.parity.acquire.cta.shared::cta.b64`: whether the phase of this parity is complete. It
/// may be false though it is, or will be soon.
#[track_caller]
#[must_use]
pub fn mbarrier_try_wait_parity(bar: u32, parity: u32) -> bool {
    mbarrier_try_wait(bar, Wait { phase: Phase::Parity(parity), scope: Scope::Cta })
}

/// Under [`Action::ParityFlip`] and [`Action::AddressXor`]: whether the lane waits relaxed, and for what.
fn changed_wait(bar: u32, wait: Wait, action: Option<Action>) -> (u32, Wait, bool) {
    let phase = match (wait.phase, action) {
        (Phase::Parity(parity), Some(Action::ParityFlip)) => Phase::Parity(parity ^ 1),
        (phase, _) => phase,
    };
    (flipped(bar, action), Wait { phase, ..wait }, matches!(action, Some(Action::Weaken)))
}

/// `mbarrier.try_wait`, of a parity or of a state.
#[track_caller]
pub(crate) fn mbarrier_try_wait(bar: u32, wait: Wait) -> bool {
    let location = Location::caller();
    let op = match wait.phase {
        Phase::Parity(_) => Op::MbarrierTryWaitParity,
        Phase::State(_) => Op::MbarrierTryWait,
    };
    let entered = or_halt(with(|run| run.enter(op, location, None)));
    let action = entered.action;
    if matches!(action, Some(Action::Drop)) {
        return true;
    }
    // Others go first, as before every strong access.
    with(|run| run.yield_lane());
    suspend();
    let (bar, wait, relaxed) = changed_wait(bar, wait, action);
    match or_halt(with(|run| run.mbarrier_try_wait(entered.site, bar, wait, relaxed, true))) {
        Some(complete) => complete,
        None => {
            // Set aside until the phase completes, or the time limit of the instruction is over.
            suspend();
            let outcome = with(|run| run.mbarrier_try_wait(entered.site, bar, wait, relaxed, false));
            or_halt(outcome).unwrap_or_else(|| halt())
        }
    }
}

/// `mbarrier.test_wait`, of a parity or of a state.
#[track_caller]
pub(crate) fn mbarrier_test_wait(bar: u32, wait: Wait) -> bool {
    let location = Location::caller();
    let entered = or_halt(with(|run| run.enter(Op::MbarrierTestWait, location, None)));
    if matches!(entered.action, Some(Action::Drop)) {
        return true;
    }
    with(|run| run.yield_lane());
    suspend();
    let (bar, wait, relaxed) = changed_wait(bar, wait, entered.action);
    or_halt(with(|run| run.mbarrier_test_wait(entered.site, bar, wait, relaxed)))
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

/// `fence.proxy.async`, of both state spaces.
#[track_caller]
pub(crate) fn fence_proxy_async() {
    execute(Op::FenceProxyAsync, Location::caller(), (), |run, _, _| {
        run.fence_proxy_async(Space::Shared);
        run.fence_proxy_async(Space::Global);
        Ok(())
    });
}

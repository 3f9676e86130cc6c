//! Clusters, and barriers of some warps.

use std::panic::Location;

use super::execute::{execute, execute_together, flipped};
use crate::{
    fault::Action,
    scheduler::{suspend, with},
    site::Op,
};

/// `%cluster_ctarank`.
#[must_use]
pub fn cluster_ctarank() -> u32 {
    with(|run| run.cta().rank())
}

/// `%cluster_nctarank`.
#[must_use]
pub fn cluster_nctarank() -> u32 {
    with(|run| run.cta().peers.len() as u32)
}

/// `%clusterid.x`.
#[must_use]
pub fn clusterid_x() -> u32 {
    with(|run| run.shape().cluster_of(run.cta().index)[0])
}

/// `%nclusterid.x`.
#[must_use]
pub fn nclusterid_x() -> u32 {
    with(|run| run.shape().clusters()[0])
}

/// `barrier.cluster.arrive.release.aligned`.
#[track_caller]
pub fn barrier_cluster_arrive() {
    barrier_cluster_arrive_of(false, true);
}

/// `barrier.cluster.arrive`, relaxed or not, aligned or not.
#[track_caller]
pub(crate) fn barrier_cluster_arrive_of(relaxed: bool, aligned: bool) {
    execute_together(Op::BarrierClusterArrive, Location::caller(), [0; 4], |run, site, action| {
        run.cluster_arrive(site, action, (relaxed, aligned))
    });
}

/// `barrier.cluster.wait.acquire.aligned`.
#[track_caller]
pub fn barrier_cluster_wait() {
    barrier_cluster_wait_of(true);
}

/// `barrier.cluster.wait`, aligned or not.
#[track_caller]
pub(crate) fn barrier_cluster_wait_of(aligned: bool) {
    execute_together(Op::BarrierClusterWait, Location::caller(), [0; 4], |run, site, action| {
        run.cluster_wait(site, action, aligned)
    });
}

/// `mapa.shared::cluster.u32`: the address in the CTA of that rank of what is at `address` in this CTA.
#[track_caller]
#[must_use]
pub fn mapa(address: u32, rank: u32) -> u32 {
    execute(Op::Mapa, Location::caller(), address, |run, site, action| {
        let rank = if let Some(Action::Rank(other)) = action { other } else { rank };
        run.mapa(site, flipped(address, action), rank)
    })
}

/// `bar.sync id, threads`, with id from 1 to 15.
#[track_caller]
pub fn bar_sync_named(id: u32, threads: u32) {
    execute_together(Op::BarSyncNamed, Location::caller(), [0; 4], |run, site, _| {
        run.bar_named(site, id, threads, true)
    });
}

/// `bar.arrive id, threads`: as `bar.sync`, without waiting.
#[track_caller]
pub(crate) fn bar_arrive(id: u32, threads: u32) {
    execute_together(Op::BarArrive, Location::caller(), [0; 4], |run, site, _| {
        run.bar_named(site, id, threads, false)
    });
}

/// `setmaxnreg.dec.sync.aligned.u32`.
#[track_caller]
pub fn setmaxnreg_dec(registers: u32) {
    execute_together(Op::SetmaxnregDec, Location::caller(), [0; 4], |run, site, _| {
        run.setmaxnreg(site, registers)
    });
}

/// `setmaxnreg.inc.sync.aligned.u32`.
#[track_caller]
pub fn setmaxnreg_inc(registers: u32) {
    execute_together(Op::SetmaxnregInc, Location::caller(), [0; 4], |run, site, _| {
        run.setmaxnreg(site, registers)
    });
}

/// `griddepcontrol.wait`.
#[track_caller]
pub fn griddepcontrol_wait() {
    let location = Location::caller();
    let blocked = execute(Op::GriddepcontrolWait, location, false, |run, site, action| {
        Ok(run.griddepcontrol_wait(site, matches!(action, Some(Action::Weaken))))
    });
    if blocked {
        suspend();
    }
}

/// `griddepcontrol.launch_dependents`: a hint. Launches that depend on this one may begin at any time anyway.
#[track_caller]
pub fn griddepcontrol_launch_dependents() {
    execute(Op::GriddepcontrolLaunchDependents, Location::caller(), (), |_, _, _| Ok(()));
}

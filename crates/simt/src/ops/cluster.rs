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
    with(|run| run.cta().index / run.cta().peers.len() as u32)
}

/// `%nclusterid.x`.
#[must_use]
pub fn nclusterid_x() -> u32 {
    with(|run| run.launches[run.cta().launch].grid / run.cta().peers.len() as u32)
}

/// `barrier.cluster.arrive.release.aligned`.
#[track_caller]
pub fn barrier_cluster_arrive() {
    execute_together(Op::BarrierClusterArrive, Location::caller(), [0; 4], |run, site, action| {
        run.cluster_arrive(site, action)
    });
}

/// `barrier.cluster.wait.acquire.aligned`.
#[track_caller]
pub fn barrier_cluster_wait() {
    execute_together(Op::BarrierClusterWait, Location::caller(), [0; 4], |run, site, action| {
        run.cluster_wait(site, action)
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
        run.bar_sync_named(site, id, threads)
    });
}

/// `setmaxnreg.dec.sync.aligned.u32`.
#[track_caller]
pub fn setmaxnreg_dec(registers: u32) {
    execute_together(Op::SetmaxnregDec, Location::caller(), [0; 4], |run, site, _| {
        run.setmaxnreg(Op::SetmaxnregDec, site, registers)
    });
}

/// `setmaxnreg.inc.sync.aligned.u32`.
#[track_caller]
pub fn setmaxnreg_inc(registers: u32) {
    execute_together(Op::SetmaxnregInc, Location::caller(), [0; 4], |run, site, _| {
        run.setmaxnreg(Op::SetmaxnregInc, site, registers)
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

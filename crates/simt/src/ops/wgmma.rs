//! wgmma and stmatrix.

use std::panic::Location;

use super::execute::{execute, execute_together, flipped, or_halt};
use crate::{
    fault::Action,
    scheduler::{suspend, with},
    site::Op,
};

/// `wgmma.fence`, then `wgmma.mma_async.sync.aligned.m64nNk16.f32.f16.f16` for each pair of matrix descriptors (of A
/// and of B, both K-major), then `wgmma.commit_group`. N is `2 * acc.len()`.
///
/// Until [`wgmma_wait_group`] gives the sums, `acc` holds signalling NaNs that stand for them; passed on to a further
/// wgmma they are what it adds to.
#[track_caller]
pub fn wgmma_f16(acc: &mut [f32], steps: &[[u64; 2]]) {
    let present = execute(Op::WgmmaF16, Location::caller(), false, |run, site, action| {
        let (a, b) = if let Some(Action::DescriptorAdd { a, b }) = action { (a, b) } else { (0, 0) };
        let steps: Vec<_> = steps
            .iter()
            .map(|&[of_a, of_b]| [of_a.wrapping_add_signed(a), of_b.wrapping_add_signed(b)])
            .collect();
        run.wgmma(site, acc, steps).map(|()| true)
    });
    if present {
        suspend();
        acc.fill(f32::from_bits(with(|run| run.lane_mut().result[0])));
    }
}

/// `wgmma.wait_group.sync.aligned`: waits until at most the latest `pending` groups are under way. `acc` gets the
/// sums if the wgmma that it stands for is among those that are done.
#[track_caller]
pub fn wgmma_wait_group(pending: u32, acc: &mut [f32]) {
    let present = execute(Op::WgmmaWaitGroup, Location::caller(), None, |run, site, action| {
        let more = if let Some(Action::WaitGroup(more)) = action { more } else { 0 };
        run.wgmma_wait_group(site, pending.saturating_add(more), acc)?;
        Ok(Some(site))
    });
    if let Some(site) = present {
        suspend();
        or_halt(with(|run| run.wgmma_collect(site, acc)));
    }
}

/// `stmatrix.sync.aligned.m8n8.x4.shared.b16`.
#[track_caller]
pub fn stmatrix_x4(row: u32, values: [u32; 4]) {
    execute_together(Op::Stmatrix, Location::caller(), [0; 4], |run, site, action| {
        run.stmatrix(site, flipped(row, action), values)
    });
}

/// Likewise for several wgmma, whose accumulators get their sums if they are among those that are done: says which did.
pub(crate) fn wgmma_wait_groups(pending: u32, accumulators: &mut [Vec<f32>]) -> Vec<bool> {
    let location = Location::caller();
    let present = execute(Op::WgmmaWaitGroup, location, None, |run, site, action| {
        let more = if let Some(Action::WaitGroup(more)) = action { more } else { 0 };
        run.wgmma_wait_group(site, pending.saturating_add(more), &[])?;
        Ok(Some(site))
    });
    let Some(site) = present else { return vec![false; accumulators.len()] };
    suspend();
    let collect = |sums: &mut Vec<f32>| or_halt(with(|run| run.wgmma_collect(site, sums)));
    accumulators.iter_mut().map(collect).collect()
}

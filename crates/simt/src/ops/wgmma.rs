//! wgmma and stmatrix.

use std::panic::Location;

use super::execute::{execute, execute_together, flipped, or_halt};
use crate::{
    exec::wgmma::LaneStep,
    fault::Action,
    scheduler::{suspend, with},
    site::Op,
    state::warpgroup::number_of,
    wgmma::Product,
};

/// `wgmma.fence`, then `wgmma.mma_async.sync.aligned.m64nNk16.f32.f16.f16` for each pair of matrix
/// descriptors (of A and of B, both K-major), then `wgmma.commit_group`. N is `2 * acc.len()`.
///
/// Until [`wgmma_wait_group`] gives the sums, `acc` holds signalling NaNs that stand for them; passed on to a
/// further wgmma they are what it adds to.
#[track_caller]
pub fn wgmma_f16(acc: &mut [f32], steps: &[[u64; 2]]) {
    let step =
        |&[a, b]: &[u64; 2]| LaneStep { product: Product::PLAIN, a, registers: [0; 4], b, keeps: true };
    let steps: Vec<LaneStep> = steps.iter().map(step).collect();
    let mut group = [(acc.to_vec(), steps)];
    wgmma_group(&mut group);
    acc.copy_from_slice(&group[0].0);
}

/// Likewise a group of any wgmma: accumulators, and what adds to each. There may be none.
#[track_caller]
pub(crate) fn wgmma_group(group: &mut [(Vec<f32>, Vec<LaneStep>)]) {
    let present = execute(Op::WgmmaF16, Location::caller(), false, |run, site, action| {
        if let Some(Action::DescriptorAdd { a, b }) = action {
            for step in group.iter_mut().flat_map(|part| &mut part.1) {
                step.a = if step.product.in_registers { step.a } else { step.a.wrapping_add_signed(a) };
                step.b = step.b.wrapping_add_signed(b);
            }
        }
        let parts: Vec<_> = group.iter().map(|(acc, steps)| (&acc[..], &steps[..])).collect();
        run.wgmma(site, &parts).map(|()| true)
    });
    if present {
        suspend();
        let first = with(|run| run.lane_mut().result[0]);
        for ((acc, _), bits) in group.iter_mut().zip(first..) {
            acc.fill(f32::from_bits(bits));
        }
    }
}

/// `wgmma.wait_group.sync.aligned`: waits until at most the latest `pending` groups are under way. `acc` gets
/// the sums if the wgmma that it stands for is among those that are done.
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
    stmatrix(row, values, 4, false);
}

/// `stmatrix` of so many matrices, 1, 2 or 4; what is behind their values is not looked at.
#[track_caller]
pub(crate) fn stmatrix(row: u32, values: [u32; 4], matrices: usize, trans: bool) {
    execute_together(Op::Stmatrix, Location::caller(), [0; 4], |run, site, action| {
        run.stmatrix(site, flipped(row, action), values, matrices, trans)
    });
}

/// Likewise for several wgmma, whose accumulators get their sums if they are among those that are done: says
/// which did.
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

/// Whether an accumulator stands for a sum that is under way.
pub(crate) fn is_pending(sum: f32) -> bool {
    number_of(sum).is_some()
}

//! What the tests of tensor copies, wgmma and mbarriers share.
#![allow(dead_code)] // Each test uses its part.

use fused_lora_simt::{Launch, Machine, Report, Schedule, Stats, Swizzle, TensorMap, ops::*};
use half::f16;
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

/// Runs one launch under 20 schedules and hands each outcome to `check`. `prepare` makes memory anew for
/// each.
pub(crate) fn on_every_schedule<T>(
    prepare: impl Fn(&mut Machine) -> (T, Vec<Launch>),
    check: impl Fn(Result<Stats, Report>, &Machine, &T),
) {
    for schedule in Schedule::standard(20) {
        let mut machine = Machine::new();
        let (prepared, launches) = prepare(&mut machine);
        let result = machine.run(&launches, &schedule);
        check(result, &machine, &prepared);
    }
}

/// Polls an mbarrier until the phase of this parity has ended.
#[track_caller]
pub(crate) fn wait(bar: u32, parity: u32) {
    while !mbarrier_try_wait_parity(bar, parity) {}
}

/// Initialises mbarriers from `bars` on, by the lane that runs this, for everybody.
#[track_caller]
pub(crate) fn init(bars: u32, counts: &[u32]) {
    for (bar, &count) in (bars..).step_by(8).zip(counts) {
        mbarrier_init(bar, count);
    }
    fence_mbarrier_init();
}

/// All lanes of the cluster.
#[track_caller]
pub(crate) fn cluster_sync() {
    barrier_cluster_arrive();
    barrier_cluster_wait();
}

/// Row and column of accumulator `i` of this lane among its warpgroup's 64 rows (PTX ISA, "Register Fragments
/// for wgmma.mma_async.m64nNk16", Figure 149).
pub(crate) fn accumulator_place(i: usize) -> (u32, u32) {
    let (warp, lane, i) = (thread_idx_x() / 32 % 4, thread_idx_x() % 32, i as u32);
    (16 * warp + lane / 4 + if i % 4 < 2 { 0 } else { 8 }, i / 4 * 8 + lane % 4 * 2 + i % 2)
}

/// The matrix descriptor of a K-major operand that tensor copies have placed in panels as wide as the
/// swizzle's span: eight rows take eight spans.
pub(crate) fn descriptor(swizzle: Swizzle, start: u32, panel_bytes: u32) -> u64 {
    let mode = match swizzle {
        Swizzle::None => 0,
        Swizzle::B128 => 1,
        Swizzle::B64 => 2,
        Swizzle::B32 => 3,
    };
    u64::from(start >> 4)
        | u64::from(panel_bytes >> 4) << 16
        | u64::from(swizzle.span() / 2) << 32
        | mode << 62
}

/// Whole numbers from -3 to 3, with which sums of fewer than 200 products are exact, in f16 too.
pub(crate) fn integers(n: u32, seed: u64) -> Vec<f16> {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    (0..n).map(|_| f16::from_f32(rng.random_range(-3i32..=3) as f32)).collect()
}

/// x · wᵀ, x: m × k, w: n × k.
pub(crate) fn product(x: &[f16], w: &[f16], k: usize) -> Vec<f64> {
    let dot = |x: &[f16], w: &[f16]| x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
    x.chunks_exact(k).flat_map(|x| w.chunks_exact(k).map(move |w| dot(x, w))).collect()
}

/// A matrix of f16 in one piece, with a box of it.
pub(crate) fn matrix(
    address: u64,
    [columns, rows]: [u32; 2],
    box_dims: [u32; 2],
    swizzle: Swizzle,
) -> TensorMap {
    let map = TensorMap {
        address,
        dims: [u64::from(columns), u64::from(rows)],
        stride: u64::from(columns) * 2,
        box_dims,
        swizzle,
    };
    map.check().expect("the test's map is one");
    map
}

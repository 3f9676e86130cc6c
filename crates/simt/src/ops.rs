//! The instructions, as kernels call them. Each acts for the lane that runs on this thread.
//!
//! # Panics
//!
//! All but the conversions, outside of a launch.

use std::panic::Location;

use half::f16;

use crate::{
    approx::mix,
    exchange::{Exchange, Shuffle},
    exec::memory::{Word as StrongWord, changed},
    fault::Action,
    memory::SHARED_BASE,
    scheduler::{suspend, with},
    site::Op,
    wgmma::Types,
};

mod approx;
mod bulk;
mod cluster;
mod execute;
mod mbarrier;
mod wgmma;

pub use approx::*;
pub use bulk::*;
pub use cluster::*;
pub use mbarrier::*;
pub use wgmma::*;

pub(crate) use execute::refuse;
use execute::{execute, execute_together, flipped, or_halt};

mod sealed {
    pub trait Sealed {}
    impl<const N: usize> Sealed for [u8; N] {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for [u32; 2] {}
    impl Sealed for [u32; 4] {}
}

/// What a load or store moves.
pub trait Word: bytemuck::Pod + sealed::Sealed {}
impl Word for u16 {}
impl Word for [u8; 1] {}
impl Word for [u8; 2] {}
impl Word for [u8; 4] {}
impl Word for [u8; 8] {}
impl Word for [u8; 16] {}
impl Word for u32 {}
impl Word for [u32; 2] {}
impl Word for [u32; 4] {}

/// `%tid.x`.
#[must_use]
pub fn thread_idx_x() -> u32 {
    with(|run| run.thread_idx()[0])
}

/// `%ctaid.x`.
#[must_use]
pub fn block_idx_x() -> u32 {
    with(|run| run.block_idx()[0])
}

/// `%ntid.x`.
#[must_use]
pub fn block_dim_x() -> u32 {
    with(|run| run.shape().block[0])
}

/// `bar.sync 0`.
#[track_caller]
pub fn bar_sync() {
    execute_together(Op::BarSync, Location::caller(), [0; 4], |run, site, _| run.bar_sync(site));
}

/// `bar.warp.sync 0xffffffff`.
#[track_caller]
pub fn bar_warp_sync() {
    bar_warp_sync_of(u32::MAX);
}

/// `bar.warp.sync` of the lanes in a mask.
#[track_caller]
pub(crate) fn bar_warp_sync_of(mask: u32) {
    execute_together(Op::BarWarpSync, Location::caller(), [0; 4], |run, site, _| {
        run.bar_warp_sync(site, mask)
    });
}

/// `cvt.rn.f16x2.f32`: to nearest, ties to even; beyond the largest f16 to infinity; `low` in the lower half.
#[must_use]
pub fn pack_f16x2(low: f32, high: f32) -> u32 {
    u32::from(f16::from_f32(high).to_bits()) << 16 | u32::from(f16::from_f32(low).to_bits())
}

/// `cvt.f32.f16`.
#[must_use]
pub fn f16_to_f32(bits: u16) -> f32 {
    f16::from_bits(bits).to_f32()
}

/// `cp.async.cg.shared.global [to], [from], 16, bytes`.
#[track_caller]
pub fn cp_async_16(to_shared: u32, from_global: u64, bytes: u32) {
    cp_async(to_shared, from_global, 16, bytes);
}

/// `cp.async` of 4, 8 or 16 bytes, of which so many are read.
#[track_caller]
pub(crate) fn cp_async(to_shared: u32, from_global: u64, size: u32, bytes: u32) {
    execute(Op::CpAsync, Location::caller(), (), |run, site, action| {
        let bytes = match action {
            Some(Action::ByteDelta(delta)) => bytes.saturating_add_signed(delta),
            _ => bytes,
        };
        run.cp_async(site, action, flipped(to_shared, action), from_global, [size, bytes])
    });
}

/// `cp.async.commit_group`.
#[track_caller]
pub fn cp_async_commit_group() {
    execute(Op::CpAsyncCommitGroup, Location::caller(), (), |run, _, _| {
        run.cp_async_commit_group();
        Ok(())
    });
}

/// `cp.async.wait_group`.
#[track_caller]
pub fn cp_async_wait_group(pending: u32) {
    execute(Op::CpAsyncWaitGroup, Location::caller(), (), |run, _, action| {
        let more = if let Some(Action::WaitGroup(more)) = action { more } else { 0 };
        run.cp_async_wait_group(pending.saturating_add(more));
        Ok(())
    });
}

/// `cp.async.mbarrier.arrive`, with `.noinc` if the arrival is expected.
#[track_caller]
pub(crate) fn cp_async_mbarrier_arrive(bar: u32, expected: bool) {
    execute(Op::CpAsyncMbarrierArrive, Location::caller(), (), |run, site, action| {
        run.cp_async_mbarrier_arrive(site, flipped(bar, action), expected)
    });
}

/// `ld.global`, weak.
#[track_caller]
#[must_use]
pub fn ld_global<T: Word>(address: u64) -> T {
    execute(Op::LdGlobal, Location::caller(), T::zeroed(), |run, site, action| {
        run.ld_global(site, action, address)
    })
}

/// `ld.global.nc`: whoever writes there in the same launch is at fault.
#[track_caller]
pub(crate) fn ld_global_nc<T: Word>(address: u64) -> T {
    execute(Op::LdGlobal, Location::caller(), T::zeroed(), |run, site, action| {
        let word = matches!(action, Some(Action::Word { .. })).then_some(action).flatten();
        run.ld_global(site, word.or(Some(Action::NonCoherent)), address)
    })
}

/// `st.global`, weak.
#[track_caller]
pub fn st_global<T: Word>(address: u64, value: T) {
    execute(Op::StGlobal, Location::caller(), (), |run, site, _| run.st_global(site, address, value));
}

/// `ld.acquire.gpu.global.u32`.
#[track_caller]
#[must_use]
pub fn ld_acquire_gpu(address: u64) -> u32 {
    ld_strong(StrongWord::global(address), true) as u32
}

/// A strong load, with an acquire or relaxed.
#[track_caller]
pub(crate) fn ld_strong(word: StrongWord, acquires: bool) -> u64 {
    let location = Location::caller();
    let op = if acquires { Op::LdAcquire } else { Op::LdRelaxed };
    let entered = or_halt(with(|run| {
        let entered = run.enter(op, location, None)?;
        run.before_poll(entered.site, word.poll())?;
        Ok(entered)
    }));
    // Also when it is dropped: a loop that polls for good must come to an end as a deadlock.
    suspend();
    if matches!(entered.action, Some(Action::Drop)) {
        return 0;
    }
    or_halt(with(|run| run.ld_strong(entered.site, entered.action, word, acquires)))
}

/// `st.relaxed.gpu.global.u32`.
#[track_caller]
pub fn st_relaxed_gpu(address: u64, value: u32) {
    st_strong(StrongWord::global(address), u64::from(value), false);
}

/// A strong store, with a release or relaxed.
#[track_caller]
pub(crate) fn st_strong(word: StrongWord, value: u64, releases: bool) {
    let op = if releases { Op::StRelease } else { Op::StRelaxed };
    execute(op, Location::caller(), (), |run, site, action| {
        run.st_strong(site, word, value, releases && !matches!(action, Some(Action::Weaken)))
    });
}

/// `atom.relaxed.gpu.global.inc.u32`: old ≥ last gives 0, else old + 1.
#[track_caller]
pub fn atom_inc_relaxed_gpu(address: u64, last: u32) -> u32 {
    let new = |old| if old >= u64::from(last) { 0 } else { old + 1 };
    atom(Op::AtomInc, StrongWord::global(address), (false, false), new) as u32
}

/// Any read-modify-write; acquires and releases as it says. Gives what was there.
#[track_caller]
pub(crate) fn atom(
    op: Op,
    word: StrongWord,
    (acquires, releases): (bool, bool),
    new: impl FnOnce(u64) -> u64,
) -> u64 {
    let location = Location::caller();
    let entered = or_halt(with(|run| run.enter(op, location, None)));
    if entered.pause {
        suspend();
    }
    let dropped = matches!(entered.action, Some(Action::Drop));
    let strong = !matches!(entered.action, Some(Action::Weaken));
    let old = or_halt(with(|run| {
        let order = (acquires && strong, releases && strong);
        run.atom(entered.site, word, order, |old| if dropped { old } else { new(old) })
    }));
    u64::from(changed(entered.action, old as u32)) | old & !0xffff_ffff
}

/// `red.release.gpu.global.add.u32`.
#[track_caller]
pub fn red_add_release_gpu(address: u64, value: u32) {
    let new = |old| u64::from((old as u32).wrapping_add(value));
    red(Op::RedAddRelease, StrongWord::global(address), true, new);
}

/// Any read-modify-write without a result: dropped, nothing is touched.
#[track_caller]
pub(crate) fn red(op: Op, word: StrongWord, releases: bool, new: impl FnOnce(u64) -> u64) {
    execute(op, Location::caller(), (), |run, site, action| {
        let releases = releases && !matches!(action, Some(Action::Weaken));
        run.atom(site, word, (false, releases), new).map(|_| ())
    });
}

/// `fence.acq_rel` and `membar`, of any scope.
#[track_caller]
pub(crate) fn fence() {
    execute(Op::Fence, Location::caller(), (), |run, _, _| {
        run.fence();
        Ok(())
    });
}

/// `ld.shared`, weak.
#[track_caller]
#[must_use]
pub fn ld_shared<T: Word>(address: u32) -> T {
    execute(Op::LdShared, Location::caller(), T::zeroed(), |run, site, action| {
        run.ld_shared(site, flipped(address, action))
    })
}

/// `st.shared`, weak.
#[track_caller]
pub fn st_shared<T: Word>(address: u32, value: T) {
    execute(Op::StShared, Location::caller(), (), |run, site, action| {
        run.st_shared(site, flipped(address, action), value)
    });
}

/// `ld.shared::cluster`, weak.
#[track_caller]
pub(crate) fn ld_cluster<T: Word>(address: u32) -> T {
    execute(Op::LdShared, Location::caller(), T::zeroed(), |run, site, action| {
        run.ld_cluster(site, flipped(address, action))
    })
}

/// `st.shared::cluster`, weak.
#[track_caller]
pub(crate) fn st_cluster<T: Word>(address: u32, value: T) {
    execute(Op::StShared, Location::caller(), (), |run, site, action| {
        run.st_cluster(site, flipped(address, action), value)
    });
}

/// Where the CTA's dynamic shared memory starts: not 0, a multiple of 1024.
#[must_use]
pub fn dynamic_shared() -> u32 {
    SHARED_BASE
}

/// `ldmatrix.sync.aligned.m8n8.x4.shared.b16`.
#[track_caller]
#[must_use]
pub fn ldmatrix_x4(row: u32) -> [u32; 4] {
    ldmatrix(Op::Ldmatrix, row, 4)
}

/// `ldmatrix` of so many matrices, 1, 2 or 4.
#[track_caller]
pub(crate) fn ldmatrix(op: Op, row: u32, matrices: usize) -> [u32; 4] {
    execute_together(op, Location::caller(), [0; 4], |run, site, action| {
        run.ldmatrix(site, flipped(row, action), op, matrices)
    })
}

/// `shfl.sync.bfly.b32` with clamp 31 and all lanes of the warp: the value of the lane whose number is this
/// one's XOR the lower five bits of `mask`. Each lane may give a mask of its own. Dropped, it gives the
/// lane's own value.
#[track_caller]
#[must_use]
pub fn shfl_bfly(value: u32, mask: u32) -> u32 {
    exchange(Op::ShflBfly, Exchange::Shuffle(Shuffle::Butterfly), u32::MAX, [value, mask, 31, 0], [value; 4])
        [0]
}

/// An exchange among the lanes of a mask; dropped it gives `dropped`.
#[track_caller]
pub(crate) fn exchange(op: Op, kind: Exchange, mask: u32, given: [u32; 4], dropped: [u32; 4]) -> [u32; 4] {
    execute_together(op, Location::caller(), dropped, |run, site, _| run.exchange(site, kind, mask, given))
}

/// `elect.sync`: the leader of the lanes in a mask, by the schedule's seed and the mask always the same; and
/// whether this lane is it.
#[track_caller]
pub(crate) fn elect(mask: u32) -> [u32; 4] {
    let choice = with(|run| mix(run.schedule.seed ^ u64::from(mask) << 32));
    exchange(Op::Elect, Exchange::Elect { choice }, mask, [0; 4], [0, 1, 0, 0])
}

/// `mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32`.
#[track_caller]
#[must_use]
pub fn mma_m16n8k16_f16(a: [u32; 4], b: [u32; 2], c: [f32; 4]) -> [f32; 4] {
    mma(Some(Types::F16), (a, b, c.map(f32::to_bits))).map(f32::from_bits)
}

/// Likewise of any types, of f64 without. Dropped, it gives c.
#[track_caller]
pub(crate) fn mma(types: Option<Types>, registers: ([u32; 4], [u32; 2], [u32; 4])) -> [u32; 4] {
    execute_together(Op::Mma, Location::caller(), registers.2, |run, site, _| run.mma(site, types, registers))
}

/// A value of the kernel, named so that a seeded fault can change it.
#[track_caller]
#[must_use]
pub fn tap(name: &'static str, value: u32) -> u32 {
    let location = Location::caller();
    let entered = or_halt(with(|run| run.enter(Op::Tap, location, Some(name))));
    match entered.action {
        Some(Action::Tap(change)) => change(value),
        Some(Action::Drop) => 0,
        _ => value,
    }
}

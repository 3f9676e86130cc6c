//! A strict machine that runs GPU kernels on the CPU from their own Rust source, lane by lane, for tests.
//!
//! A kernel is a function that calls [`ops`], one entry for each PTX instruction. A [`Machine`] owns global memory
//! and runs [`Launch`]es under a [`Schedule`]. It reads the PTX manual strictly: what a GPU may do, the machine
//! does under some schedule, and what the manual leaves undefined is a [`Report`] that names kernel, CTA, lane and
//! source line. It is not fast and models no time, no caches and no registers.
//!
//! ```
//! use fused_lora_simt::{Action, Kind, Launch, Machine, Op, Schedule, Site, ops::*};
//!
//! let mut machine = Machine::new();
//! let x = machine.input(&(0..64u32).collect::<Vec<_>>());
//! let y = machine.buffer(64 * 4);
//! let reverse = Launch::new("reverse", 1, 64, 64 * 4, move || {
//!     let i = thread_idx_x();
//!     st_shared(dynamic_shared() + 4 * i, ld_global::<u32>(x + 4 * u64::from(i)));
//!     bar_sync();
//!     st_global(y + 4 * u64::from(i), ld_shared::<u32>(dynamic_shared() + 4 * (63 - i)));
//! });
//! for schedule in Schedule::standard(20) {
//!     machine.run(&[reverse.clone()], &schedule)?;
//!     assert_eq!(machine.read::<u32>(y, 64)?, (0..64).rev().collect::<Vec<_>>());
//!
//!     // A test that never failed has not been tested: without the barrier it must.
//!     let fault = Site::all(Op::BarSync).does(Action::Drop);
//!     let report = machine.run(&[reverse.clone()], &schedule.with(fault)).unwrap_err();
//!     assert!(matches!(report.kind, Kind::Race { .. } | Kind::Poison { .. }));
//! }
//! # Ok::<(), fused_lora_simt::Report>(())
//! ```
//!
//! # Who runs when
//!
//! Each lane is a coroutine on the caller's thread. CTAs are dispatched to [`Schedule::slots`] in random order;
//! several launches of one [`Machine::run`] share the slots and run interleaved. A lane runs until it comes to a
//! barrier or another collective instruction, to a strong access (acquire, release, relaxed, atomic), or until the
//! schedule interrupts it before an ordinary access; then a random lane goes on. All choices come from the seed:
//! equal schedules take the same course.
//!
//! Warps are not in lockstep. A collective instruction (bar.warp.sync, ldmatrix, mma) is executed when all 32 lanes
//! have come to it, at the same source line; bar.sync when all lanes of the CTA have, those of a warp on the same
//! line. A lane that comes to another one, or that has exited, is a *divergence*.
//!
//! A lane that polls with `ld_acquire_gpu` gives way before each read, and is set aside while nobody writes. When
//! no lane can go on, no CTA can be dispatched, and trying all poll loops again changes nothing, that is a
//! *deadlock*; asynchronous copies cannot resolve it, since they write to shared memory, which nobody polls. A
//! loop that makes no progress without polling is not found; [`Schedule::abort_after`] ends it.
//!
//! # Memory
//!
//! Addresses are numbers, checked when they are followed: bounds, alignment to the size of the access, and whether
//! somebody wrote the bytes that are read. Shared memory starts poisoned in each CTA, a buffer until it is written.
//! Kernels must not write to inputs. Memory is otherwise sequentially consistent: a read gives the latest write. So
//! a missing acquire is not seen as a stale value; it is seen as a race, always.
//!
//! # When two accesses race
//!
//! Two accesses to a byte *conflict* if at least one writes and at least one is *weak*, that is an ordinary load,
//! store, ldmatrix or copy. Strong accesses do not conflict with each other. Two conflicting accesses race unless
//! one *happens before* the other. That does not depend on when they were executed: of two accesses that nothing
//! orders the second is reported, however long after the first it comes. Nothing is sampled, every access to every
//! byte is checked. What orders:
//!
//! - *program order* of a lane;
//! - *bar.sync*: all that the lanes of the CTA did before it, before all that they do after; *bar.warp.sync*
//!   likewise for a warp;
//! - *release and acquire* at GPU scope: what a lane did or knew (through barriers and acquires of its own) before
//!   `red.release`, before what another does after an `ld.acquire` of the same word that comes later. Further
//!   read-modify-writes, also relaxed ones, keep that up, and further releases add to it. Any other write to the
//!   word, also a relaxed one of the same lane, ends it. (The manual would let the releasing lane's own later
//!   strong stores carry the release on; the machine does not.)
//! - *the wait for a copy*, for the lane that waits, see below;
//! - the *boundary* between two calls of [`Machine::run`]. Launches of one call are not ordered.
//!
//! Nothing else does: not ldmatrix or mma, though the lanes of a warp meet there, not dispatch, not the end of a
//! CTA, not a relaxed access. ldmatrix counts as a read of each row by each lane of the warp, so that a row must be
//! written before, in this order, for all 32 of them, and may be overwritten only when all 32 have been ordered
//! before.
//!
//! *Asynchronous copies* (cp.async) are actors of their own, one for each commit group of a lane. An actor begins
//! with what its lane knows at issue, so that what was ordered before the issue is ordered before the copy. It ends
//! when its lane has executed a `wait_group` that covers its group: the copy is ordered before what is ordered after
//! *that wait*, which is what this lane does next, and what others do after a barrier or a release that follows it.
//! Until then its read of global and its write to shared memory race with every conflicting access of anybody, of
//! its own lane and of other copies of its own group, too. When data moves between issue and wait is up to
//! [`Asynchrony`]; verdicts do not depend on it. A lane that ends with copies under way is at fault.
//!
//! A *non-coherent read* (seeded by [`Action::NonCoherent`]) is legal only for bytes that nobody writes during the
//! run, ordered or not.
//!
//! How it is decided: as in *FastTrack* (Flanagan and Freund, 2009), by epochs. A lane counts up an epoch whenever it
//! publishes what it knows, at barriers and releases, and holds for each other lane the latest epoch that is ordered
//! before it. An access is kept as (lane, epoch, source line), and happens before a later one if the later lane
//! holds that epoch or a later one. Lanes that left a barrier together share what they hold; of other CTAs they hold
//! only those that they have heard of. For each byte the accesses that later ones can race with are kept: the
//! latest writes and the reads since. Neighbouring bytes that were always accessed together share one record. A
//! test compares all this with an oracle that keeps full clocks and whole histories, on random programs.
//!
//! # What is computed
//!
//! mma adds the 16 exact products and c in f64 and rounds the sum towards zero to f32, as tensor cores truncate
//! while they add; it is no model of their bits. Everything else is exact by the manual.
//!
//! # What it does not model
//!
//! Only the instructions of [`ops`], and as follows. No stale values (see above); no fences, no scopes but CTA
//! and GPU; no proxies but the generic one, which plain cp.async belongs to; no forward progress guarantees beyond
//! fairness; no limits of registers or of how many CTAs fit. Accesses of different sizes to a flag are weak-versus-
//! strong conflicts only where a weak one takes part. A poll loop that ends by itself after a bounded number of
//! fruitless tries may be reported as a deadlock.
#![deny(missing_docs)]

mod banks;
mod clock;
mod cta;
mod exec;
mod fault;
mod machine;
mod memory;
pub mod ops;
mod report;
mod run;
mod schedule;
mod scheduler;
mod shadow;
mod site;
mod stats;
mod tensor;

pub use fault::{Action, Mutation, Site};
pub use machine::{Launch, Machine};
pub use report::{Kind, Party, PartyActor, Report, Wait};
pub use schedule::{Asynchrony, Order, Schedule};
pub use site::{Op, SiteInfo};
pub use stats::Stats;

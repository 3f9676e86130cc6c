//! A strict machine for tests of GPU kernels: it runs them on the CPU, lane by lane, and reports what the PTX
//! manual forbids.
//!
//! A kernel is PTX text ([`ptx`]), or a Rust function that calls [`ops`], which has one function for each PTX
//! instruction. A [`Machine`] owns global memory and runs [`Launch`]es under a [`Schedule`]. It reads the PTX
//! manual strictly: what the manual lets a GPU do, the machine does under some schedule, and what the manual
//! leaves undefined ends the run with a [`Report`] that names kernel, CTA, lane and source line. The machine
//! is slow, and it models neither time nor caches.
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
//! # Scheduling
//!
//! Each lane is a coroutine on the caller's thread. CTAs are dispatched to [`Schedule::slots`] in random
//! order; several launches of one [`Machine::run`] share the slots and run interleaved. A lane runs until it
//! comes to a barrier or another collective instruction, to a strong access (acquire, release, relaxed,
//! atomic), or until the schedule interrupts it before an ordinary access; then a random lane goes on. All
//! choices come from the seed: equal schedules take the same course.
//!
//! Warps are not in lockstep. A collective instruction (bar.warp.sync, shfl.sync, ldmatrix, mma) is executed
//! when all 32 lanes have come to it, at the same source line; bar.sync when all lanes of the CTA have, those
//! of a warp on the same line. A lane that comes to another one, or that has exited, is a *divergence*.
//!
//! A lane that polls with `ld_acquire_gpu` gives way before each read, and is set aside while nobody writes;
//! likewise one that waits for an mbarrier, with `mbarrier_try_wait_parity`, until its phase ends or, at
//! times, in vain. When no lane can go on, no CTA can be dispatched, no data is under way that an mbarrier
//! waits for, and trying all poll loops again changes nothing, that is a *deadlock*; the report says what
//! each mbarrier lacks. A loop that makes no progress without polling is not found; [`Schedule::abort_after`]
//! ends it.
//!
//! The CTAs of a *cluster* ([`Launch::cluster`]) are dispatched together; there are at least as many slots.
//! wgmma and setmaxnreg are executed when the four warps of the warpgroup have come to them, with the same
//! operands. A launch that is [programmatic](Launch::programmatic) may begin as soon as all CTAs before it
//! have begun, whatever these say by `griddepcontrol.launch_dependents`.
//!
//! # Memory
//!
//! Addresses are numbers, checked when they are followed: bounds, alignment to the size of the access, and
//! whether somebody wrote the bytes that are read. Shared memory starts poisoned in each CTA, a buffer until
//! it is written. Kernels must not write to inputs. Memory is otherwise sequentially consistent: a read gives
//! the latest write. So a missing acquire is not seen as a stale value; it is seen as a race, always.
//!
//! # When two accesses race
//!
//! Two accesses to a byte *conflict* if at least one writes and at least one is *weak*, that is an ordinary
//! load, store, ldmatrix, stmatrix, copy or wgmma. Strong accesses do not conflict with each other. Two
//! conflicting accesses race unless one *happens before* the other. That does not depend on when they were
//! executed: of two accesses that nothing orders the second is reported, however long after the first it
//! comes. Nothing is sampled, every access to every byte is checked. What orders:
//!
//! - *program order* of a lane;
//! - *bar.sync*: all that the lanes of the CTA did before it, before all that they do after; *bar.warp.sync*
//!   likewise for a warp, *bar.sync* with a number for the warps that take part;
//! - *release and acquire* at GPU scope: what a lane did or knew (through barriers and acquires of its own)
//!   before `red.release`, before what another does after an `ld.acquire` of the same word that comes later.
//!   Further read-modify-writes, also relaxed ones, keep that up, and further releases add to it. Any other
//!   write to the word, also a relaxed one of the same lane, ends it. (The manual would let the releasing
//!   lane's own later strong stores carry the release on; the machine does not.)
//! - *mbarriers*: what a lane did or knew before an arrival, before what another does after a wait that has
//!   seen the end of that phase, or of a later one. An arrival at the mbarrier of *another CTA* has CTA
//!   scope, and so tells there only of asynchronous operations that are complete: that its wgmma has read a
//!   slot, not that its lanes have;
//! - *barrier.cluster*: what a warp of the cluster did before it arrived, before what all do after their
//!   wait;
//! - *the wait for an asynchronous operation*, see below;
//! - *fences*: what a lane did before a `fence.acq_rel` or `membar`, before what another does after its own
//!   fence, if the first one then wrote a word, strongly, that the other one read before its fence; and
//!   `fence.mbarrier_init` likewise, of initialisations alone, also across a relaxed arrival at the barrier
//!   of the cluster;
//! - the *boundary* between two calls of [`Machine::run`]. Launches of one call are not ordered, but that
//!   `griddepcontrol.wait` in a programmatic launch is after the launches before it in the call.
//!
//! Nothing else does: not shfl, ldmatrix or mma, wgmma or setmaxnreg, though the lanes of a warp meet there,
//! not dispatch, not the end of a CTA, not a relaxed access. ldmatrix counts as a read of each row by each
//! lane of the warp, so that a row must be written before, in this order, for all 32 of them, and may be
//! overwritten only when all 32 have been ordered before. stmatrix likewise counts as a write of each row by
//! each lane.
//!
//! *Asynchronous copies* (cp.async) are actors of their own, one for each commit group of a lane. An actor
//! begins with what its lane knows at issue, so that what was ordered before the issue is ordered before the
//! copy. It ends when its lane has executed a `wait_group` that covers its group: the copy is ordered before
//! what is ordered after *that wait*, which is what this lane does next, and what others do after a barrier
//! or a release that follows it. Until then its read of global and its write to shared memory race with every
//! conflicting access of anybody, of its own lane and of other copies of its own group, too. When data moves
//! between issue and wait is up to [`Asynchrony`]; verdicts do not depend on it. A lane that ends with copies
//! under way is at fault.
//!
//! # Asynchronous operations of Hopper
//!
//! Each *bulk or tensor copy* is an actor of its own, each destination of a multicast is another one, and so
//! is each group of *wgmma*. It begins with what the lane that issues it knows; wgmma with what all 128 lanes
//! know. Until it is known to be complete it races with every conflicting access of anybody. It is complete
//!
//! - a copy to shared memory, for whoever knows that the mbarrier's phase is over that its bytes counted for:
//!   that phase and no other one, and only if its bytes were expected there. Bytes that come before they are
//!   expected count below zero; those out of bounds are counted, too;
//! - a tensor store, for the lane that has waited for its group: of its reads of shared memory after
//!   `wait_group.read`, of its writes after `wait_group`. A lane must not end before the reads are over. The
//!   writes end with the launch;
//! - wgmma, for a warp that has waited for its group. Groups are those of the warpgroup, so that one warp
//!   that has waited can tell others for all four.
//!
//! What others come to know they know through the barriers, releases and arrivals that follow the wait, as
//! ever. So a slot may be filled again when the producer has seen an arrival that follows the wait for the
//! wgmma that reads it. Data moves at any time between issue and completion, by [`Asynchrony`]: copies in any
//! order, wgmma in its order. A tensor load copies also that nobody wrote a byte; the fault is to read it
//! then.
//!
//! *Proxies*. Bulk and tensor copies and wgmma act in the asynchronous proxy, all else (also cp.async) in the
//! generic one. If a generic access, also a read, conflicts with one of the asynchronous proxy that is
//! ordered after it, there must be a `fence.proxy.async` of that state space on the way: after the generic
//! access, by a lane of the same CTA that is ordered after it, and before the operation is issued, by a lane
//! of any CTA that is ordered after the fence; else it is a [`Kind::Proxy`]. (The manual does not say that
//! the fence must be executed in that CTA; a fence elsewhere would have to reach into another
//! multiprocessor.) In the other direction the completion suffices. Boundaries of launches fence everything.
//! An asynchronous operation, or another CTA, may signal an mbarrier only after a fence of its
//! initialisation.
//!
//! ```
//! use fused_lora_simt::{Action, Kind, Launch, Machine, Op, Schedule, Site, Swizzle, TensorMap, ops::*};
//!
//! let mut machine = Machine::new();
//! let x = machine.input(&[half::f16::ONE; 64 * 8]);
//! let map = TensorMap { address: x, dims: [64, 8], stride: 128, box_dims: [64, 8], swizzle: Swizzle::B128 };
//! let load = Launch::new("load", 1, 32, 1024 + 8, move || {
//!     let (tile, full) = (dynamic_shared(), dynamic_shared() + 1024);
//!     if thread_idx_x() == 0 {
//!         mbarrier_init(full, 1);
//!         fence_mbarrier_init();
//!         mbarrier_arrive_expect_tx(full, map.box_bytes());
//!         cp_async_bulk_tensor_2d_load(tile, &map.encode(), [0, 0], full);
//!     }
//!     bar_warp_sync();
//!     while !mbarrier_try_wait_parity(full, 0) {}
//!     assert_eq!(ld_shared::<u16>(tile + 2 * thread_idx_x()), 0x3c00);
//! });
//! for schedule in Schedule::standard(20) {
//!     machine.run(&[load.clone()], &schedule)?;
//!
//!     // With 16 bytes more expected the phase never ends.
//!     let fault = Site::all(Op::MbarrierArriveExpectTx).does(Action::ByteDelta(16));
//!     let report = machine.run(&[load.clone()], &schedule.with(fault)).unwrap_err();
//!     assert!(matches!(report.kind, Kind::Deadlock { .. }));
//! }
//! # Ok::<(), fused_lora_simt::Report>(())
//! ```
//!
//! *mbarriers* last from `mbarrier.init` to `mbarrier.inval`, which everything that was done to them must be
//! ordered before, or to the end of their CTA; they lie at 64 places at most. Ordinary data over one is a
//! fault, as are more arrivals than its count, or 2^20 bytes expected. A wait knows a phase by its parity
//! alone: one for the parity of the phase before the last that ended is true at once, as on a GPU.
//!
//! *Accumulators* of wgmma hold signalling NaNs until their wait, each with a number that tells which sums it
//! stands for. wgmma goes on with them; arithmetic gives NaN; one that was changed, or copied and used twice,
//! is a fault.
//!
//! *Shared memory of another CTA* may be used only by a lane that is ordered after something that this CTA
//! did; otherwise the CTA may not have started ([`Kind::NotStarted`]). A CTA must not end before one of its
//! lanes knows that all copies to and from its shared memory are complete, and has seen, or is ordered after,
//! all arrivals of others ([`Kind::Departed`]).
//!
//! A *non-coherent read* (seeded by [`Action::NonCoherent`]) is legal only for bytes that nobody writes
//! during the run, ordered or not.
//!
//! How it is decided: as in *FastTrack* (Flanagan and Freund, 2009), by epochs. A lane counts up an epoch
//! whenever it publishes what it knows, at barriers and releases, and holds for each other lane the latest
//! epoch that is ordered before it. An access is kept as (lane, epoch, source line), and happens before a
//! later one if the later lane holds that epoch or a later one. Lanes that left a barrier together share what
//! they hold; of other CTAs they hold only those that they have heard of. For each byte the accesses that
//! later ones can race with are kept: the latest writes and the reads since. Neighbouring bytes that were
//! always accessed together share one record. A test compares all this with an oracle that keeps full clocks
//! and whole histories, on random programs. Hopper adds to this that mbarriers and warpgroups are *virtual
//! lanes*, whose epochs count phases and groups that are complete, and that a lane holds, for each state
//! space, the epochs that a proxy fence has covered as well. These are tested with programs that each keep
//! one rule, and with seeded faults that each break it.
//!
//! # PTX of other compilers
//!
//! It does some things that this reading forbids and that hardware tolerates. Each is reported, unless a test
//! allows it by an [`Allowance`], which names the instruction; [`Stats::allowed`] counts how often each was
//! needed.
//!
//! # What is computed
//!
//! mma adds the exact products and c in f64 and rounds the sum towards zero to f32, or to the nearest f16, as
//! tensor cores truncate while they add; it is no model of their bits. wgmma does so in each step. An
//! approximation (ex2, rcp, rsqrt) gives any of the values within the error that the manual names, by the
//! schedule's seed, and within a run the same for the same input; see [`ops::ex2_approx`]. Everything else is
//! exact by the manual: tensor copies and wgmma swizzle by the bits of addresses in shared memory, so that a
//! descriptor or box which is one granule off finds other bytes. A [`TensorMap`] is encoded in the machine's
//! own way, not in the driver's.
//!
//! # What it does not model
//!
//! Only the instructions that [`ptx`] takes, and as follows. No stale values (see above); no scopes but CTA,
//! cluster and GPU as the instructions have them, and none narrower than the GPU for words in global memory;
//! no forward progress guarantees beyond fairness; no limits of registers but the pool of setmaxnreg, nor of
//! how many CTAs fit. Accesses of different sizes to a flag are weak-versus-strong conflicts only where a
//! weak one takes part. A poll loop that ends by itself after a bounded number of fruitless tries may be
//! reported as a deadlock.
//!
//! Functions are read again at each call, so none calls itself. Variables of a module in global and constant
//! memory are only read. A clock counts instructions.
//!
//! Of Hopper: no interleave, no fill but zeros, no boxes with a swizzle and shorter rows; of wgmma no binary
//! products, base offset 0; no waits or arrivals at cluster scope; cache hints do nothing; no atomics on
//! other CTAs' shared memory, no `st.async`. A tensor map that a kernel makes is read as its words are; that
//! the fences of its proxy are there is checked by CTA. wgmma groups compute in their order. An arrival at
//! another CTA does not tell that stores of the lane have read shared memory, though it tells of all other
//! operations. The machine makes a warpgroup meet at each wgmma; a GPU need not. It does not know that wgmma
//! on registers that other instructions touch is serialised: the compiler says so.
#![deny(missing_docs)]

// In layers: a module uses those of earlier groups, and of its own group without going in a circle.

// What kernels and tests speak of: instructions and places, faults, schedules, reports.
mod coverage;
mod fault;
mod report;
mod schedule;
mod site;
mod source;
mod stats;
mod tensor_map;

// Clocks and memory, and what instructions compute on plain values.
mod approx;
mod banks;
mod clock;
mod exchange;
mod memory;
mod numbers;
mod shadow;
mod tensor;
mod wgmma;

// The state of a run: of each part, of all.
mod launch;
mod run;
mod sites;
mod state;

// What happens in a run: instructions, and whose turn it is.
mod exec;
mod turns;

// Lanes as coroutines, and the machine that runs them.
mod machine;
mod scheduler;

// Kernels: instructions as functions, and PTX on these.
pub mod ops;
pub mod ptx;

pub use fault::{Action, Allowance, Allowed, Mutation, Site};
pub use launch::Launch;
pub use machine::Machine;
pub use report::{Kind, Party, PartyActor, Report, Wait};
pub use schedule::{Asynchrony, Order, Schedule};
pub use site::{Op, Place, SiteInfo, Trace};
pub use stats::Stats;
pub use tensor_map::{Element, Swizzle, Tensor, TensorMap};

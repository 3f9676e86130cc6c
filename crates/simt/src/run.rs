//! The state of a run: CTAs, lanes, who may go on.

use std::{collections::HashMap, panic::Location, rc::Rc, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};

use crate::{
    Asynchrony, Kind, Order, Party, PartyActor, Report, Schedule, Stats,
    clock::{Actor, Joins, LaneClock, View, WARP},
    cluster::ClusterBarrier,
    collective::Named,
    cta::{Cta, Lane, Warp},
    dependent::Dependent,
    fault::Action,
    memory::{Global, Tracked},
    registers::Registers,
    shadow::{Access, Group, GroupKind},
    site::{Op, Place},
    sites::{At, Sites},
    source::Source,
    transfer::Transfer,
    warpgroup::{WARPGROUP, Warpgroup},
};

/// Where dynamic shared memory starts: not at 0, so that a null address is nobody's.
pub(crate) const SHARED_BASE: u32 = 1024;
/// Polls in a row, of all lanes together, without anything else happening, after which nothing will.
const IDLE_POLLS: u64 = 200_000;
/// How often all parked poll loops are tried again, without anything else happening, before it is a deadlock.
const IDLE_ROUNDS: u32 = 64;

/// The run is over: a report was left in [`Run::failure`], and the lane must not go on.
pub(crate) struct Stop;
pub(crate) type Outcome<T> = Result<T, Stop>;

/// A launch of the run.
pub(crate) struct LaunchInfo {
    pub(crate) name: String,
    pub(crate) grid: u32,
    pub(crate) block: u32,
    pub(crate) shared_bytes: usize,
    pub(crate) cluster: u32,
    pub(crate) registers: u32,
    pub(crate) programmatic: bool,
    /// The PTX module that it is of.
    pub(crate) source: Option<Arc<Source>>,
    /// The number of its first CTA among all CTAs of the run.
    pub(crate) first_cta: u32,
    /// CTAs that were not dispatched yet, and that have not ended yet.
    pub(crate) undispatched: u32,
    pub(crate) running: u32,
    /// What the end of all launches before it publishes, once it was asked for.
    pub(crate) boundary: Option<Rc<View>>,
}

/// A resident lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaneRef {
    pub(crate) slot: usize,
    pub(crate) lane: usize,
}

/// What the scheduler does next.
pub(crate) enum Next {
    Resume(LaneRef),
    Done,
    Failed(Report),
}

pub(crate) struct Run {
    pub(crate) global: Global,
    pub(crate) launches: Vec<LaunchInfo>,
    pub(crate) slots: Vec<Option<Cta>>,
    /// Clusters to be dispatched, the next one last: launch and index.
    pub(crate) waiting: Vec<(usize, u32)>,
    pub(crate) ready: Vec<LaneRef>,
    /// Lanes that poll, and nobody has written a word since they read theirs.
    pub(crate) parked: Vec<LaneRef>,
    pub(crate) current: LaneRef,
    pub(crate) rng: Xoshiro256PlusPlus,
    pub(crate) schedule: Schedule,
    /// Ordinary accesses until a lane is interrupted.
    until_preempt: u64,
    pub(crate) sites: Sites,
    pub(crate) groups: Vec<Group>,
    /// Bulk copies that have not moved all their data.
    pub(crate) transfers: Vec<Transfer>,
    /// The barriers of clusters, by the number of their first CTA.
    pub(crate) clusters: HashMap<u32, ClusterBarrier>,
    /// Lanes that wait for the launches before theirs.
    pub(crate) dependents: Vec<Dependent>,
    pub(crate) joins: Joins,
    pub(crate) snapshots: Vec<[u32; WARP as usize]>,
    /// What the latest release to a word published, joined over its chain of read-modify-writes.
    pub(crate) released: HashMap<u64, Rc<View>>,
    /// Counts strong writes.
    pub(crate) version: u64,
    idle_polls: u64,
    idle_rounds: u32,
    instructions: u64,
    /// How often a lane came to a mutation that asks for one occurrence.
    occurrences: HashMap<(usize, u32, u32), u32>,
    pub(crate) stats: Stats,
    pub(crate) failure: Option<Report>,
    spare_shared: Vec<Tracked>,
}

/// What [`Run::enter`] found.
pub(crate) struct Entered {
    pub(crate) site: u32,
    pub(crate) action: Option<Action>,
    /// Whether other lanes go first.
    pub(crate) pause: bool,
}

impl Run {
    pub(crate) fn new(
        global: Global,
        launches: Vec<LaunchInfo>,
        schedule: Schedule,
        spare_shared: Vec<Tracked>,
    ) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(schedule.seed);
        let mut waiting: Vec<_> = launches
            .iter()
            .enumerate()
            .flat_map(|(i, launch)| (0..launch.grid / launch.cluster).map(move |cluster| (i, cluster)))
            .collect();
        match schedule.order {
            Order::Random => waiting.shuffle(&mut rng),
            Order::Ascending => waiting.reverse(),
            Order::Descending => {}
        }
        // A cluster is dispatched as a whole, so that there is room for the largest one.
        let ctas: usize = launches.iter().map(|launch| launch.grid as usize).sum();
        let cluster = launches.iter().map(|launch| launch.cluster as usize).max().unwrap_or(1);
        let slots = (0..schedule.slots.clamp(cluster, ctas.max(cluster))).map(|_| None).collect();
        let mut run = Self {
            global,
            launches,
            slots,
            waiting,
            ready: Vec::new(),
            parked: Vec::new(),
            current: LaneRef { slot: 0, lane: 0 },
            rng,
            schedule,
            until_preempt: 0,
            sites: Sites::new(),
            groups: Vec::new(),
            transfers: Vec::new(),
            clusters: HashMap::new(),
            dependents: Vec::new(),
            joins: Joins::default(),
            snapshots: Vec::new(),
            released: HashMap::new(),
            version: 0,
            idle_polls: 0,
            idle_rounds: 0,
            instructions: 0,
            occurrences: HashMap::new(),
            stats: Stats::default(),
            failure: None,
            spare_shared,
        };
        run.until_preempt = run.draw_preempt();
        run
    }

    /// Takes the run apart: memory, buffers for another one, what it did.
    pub(crate) fn finish(mut self) -> (Global, Vec<Tracked>, Stats) {
        self.stats.sites = self.sites.list();
        self.global.forget_accesses();
        self.spare_shared.extend(self.slots.into_iter().flatten().map(|cta| cta.shared));
        (self.global, self.spare_shared, self.stats)
    }

    pub(crate) fn cta(&self) -> &Cta {
        self.slots[self.current.slot].as_ref().expect("the current lane's CTA is resident")
    }

    pub(crate) fn cta_mut(&mut self) -> &mut Cta {
        self.slots[self.current.slot].as_mut().expect("the current lane's CTA is resident")
    }

    pub(crate) fn lane_mut(&mut self) -> &mut Lane {
        let lane = self.current.lane;
        &mut self.cta_mut().lanes[lane]
    }

    /// Puts a cluster that waits into free slots. The caller starts its lanes.
    pub(crate) fn dispatch(&mut self) -> Option<(Rc<[usize]>, usize)> {
        let next = self.next_to_dispatch()?;
        let (launch, cluster) = self.waiting[next];
        let info = &self.launches[launch];
        let free = (0..self.slots.len()).filter(|&slot| self.slots[slot].is_none());
        let peers: Rc<[usize]> = free.take(info.cluster as usize).collect();
        if peers.len() < info.cluster as usize {
            return None;
        }
        self.waiting.remove(next);
        self.launches[launch].undispatched -= peers.len() as u32;
        let info = &self.launches[launch];
        let block = info.block;
        for (index, &slot) in (cluster * info.cluster..).zip(&*peers) {
            let number = info.first_cta + index;
            let mut shared = self.spare_shared.pop().unwrap_or_default();
            shared.reset(info.shared_bytes);
            let view = Rc::new(View::new(number, block));
            self.slots[slot] = Some(Cta {
                launch,
                index,
                number,
                clocks: (0..block).map(|lane| LaneClock::new(number, lane, view.clone())).collect(),
                lanes: (0..block).map(|_| Lane::new()).collect(),
                warps: (0..block / WARP).map(|_| Warp::new()).collect(),
                shared,
                at_barrier: 0,
                exited: 0,
                peers: peers.clone(),
                named: std::array::from_fn(|_| Named::default()),
                mbarriers: Vec::new(),
                warpgroups: (0..block / WARPGROUP).map(|_| Warpgroup::default()).collect(),
                registers: Registers::new(info.registers, block),
                inbound: Vec::new(),
                ended: View::clone(&view),
            });
            self.ready.extend((0..block as usize).map(|lane| LaneRef { slot, lane }));
            self.stats.ctas += 1;
        }
        Some((peers, launch))
    }

    /// The lane to go on with.
    pub(crate) fn pick(&mut self) -> Next {
        if let Some(report) = self.failure.take() {
            return Next::Failed(report);
        }
        if self.schedule.asynchrony == Asynchrony::Random && self.rng.random_ratio(1, 4) {
            self.perform_some();
        }
        while self.ready.is_empty() {
            if self.slots.iter().all(Option::is_none) {
                return Next::Done;
            }
            // Whoever waits may wait for data.
            if self.perform_one() {
                if let Some(report) = self.failure.take() {
                    return Next::Failed(report);
                }
                continue;
            }
            self.idle_rounds += 1;
            if self.idle_rounds > IDLE_ROUNDS || !self.wake_polls() {
                return Next::Failed(self.deadlock());
            }
        }
        let chosen = self.rng.random_range(0..self.ready.len());
        let lane = self.ready.swap_remove(chosen);
        self.current = lane;
        self.stats.switches += 1;
        self.stats.course = (self.stats.course ^ (lane.slot << 10 | lane.lane) as u64)
            .wrapping_mul(0x100_0000_01b3)
            .rotate_left(17);
        Next::Resume(lane)
    }

    /// Lets all that poll try again. Says whether there is anybody.
    fn wake_polls(&mut self) -> bool {
        self.ready.append(&mut self.parked);
        for cta in self.slots.iter_mut().flatten() {
            for mbarrier in &mut cta.mbarriers {
                self.ready.append(&mut mbarrier.waiters);
            }
        }
        !self.ready.is_empty()
    }

    /// Moves the data of some asynchronous copies of a random lane, and perhaps of a bulk copy or of wgmma.
    fn perform_some(&mut self) {
        let slot = self.rng.random_range(0..self.slots.len());
        if let Some(cta) = &mut self.slots[slot] {
            let lane = self.rng.random_range(0..cta.lanes.len());
            let rng = &mut self.rng;
            for copy in cta.lanes[lane].copies.pending.extract_if(.., |_| rng.random_bool(0.5)) {
                copy.perform(&self.global, &mut cta.shared);
            }
            if !cta.warpgroups.is_empty() {
                let warpgroup = self.rng.random_range(0..cta.warpgroups.len());
                cta.warpgroups[warpgroup].perform(&cta.shared, 1);
            }
        }
        if !self.transfers.is_empty() && self.rng.random_bool(0.5) {
            self.perform_any();
        }
    }

    fn draw_preempt(&mut self) -> u64 {
        let chance = self.schedule.preempt;
        if chance <= 0.0 {
            u64::MAX
        } else if chance >= 1.0 {
            1
        } else {
            // Geometric: the number of trials up to the first success.
            let u: f64 = self.rng.random();
            ((1.0 - u).ln() / (1.0 - chance).ln()).ceil().clamp(1.0, 1e12) as u64
        }
    }

    /// At the start of an instruction: counts it, finds the seeded fault, and decides whether others go first.
    pub(crate) fn enter(
        &mut self,
        op: Op,
        location: &'static Location<'static>,
        tap: Option<&str>,
    ) -> Outcome<Entered> {
        let Self { slots, current, launches, sites, schedule, .. } = self;
        let cta = slots[current.slot].as_ref().expect("the current lane's CTA is resident");
        let source = launches[cta.launch].source.as_ref();
        let in_ptx = source.zip(cta.lanes[current.lane].ptx);
        let at = in_ptx.map_or(At::Source(location), |(source, line)| At::Ptx(source, line));
        let site = sites.visit(op, at, &schedule.mutations);
        self.lane_mut().latest = Some(site);
        if op != Op::Tap {
            if self.schedule.abort_after.is_some_and(|limit| self.instructions >= limit) {
                let instructions = self.instructions;
                return Err(self.fail(site, Kind::Aborted { instructions }));
            }
            self.instructions += 1;
        }
        let action = if self.sites.get(site).mutations.is_empty() { None } else { self.action(site, tap) };
        let current = self.current;
        let pause = match op {
            Op::LdGlobal
            | Op::LdShared
            | Op::StGlobal
            | Op::StShared
            | Op::CpAsync
            | Op::CpAsyncBulkTensor2dLoad
            | Op::CpAsyncBulkTensor2dLoadMulticast
            | Op::CpAsyncBulkTensor2dStore
            | Op::CpAsyncBulkSharedCluster
            | Op::WgmmaF16 => {
                self.until_preempt -= 1;
                let pause = self.until_preempt == 0;
                if pause {
                    self.until_preempt = self.draw_preempt();
                    self.ready.push(current);
                }
                pause
            }
            Op::StRelaxed
            | Op::AtomInc
            | Op::RedAddRelease
            | Op::MbarrierArrive
            | Op::MbarrierArriveCluster
            | Op::MbarrierArriveExpectTx => {
                self.ready.push(current);
                true
            }
            _ => false,
        };
        if !matches!(op, Op::LdAcquire | Op::LdGlobal | Op::LdShared | Op::MbarrierTryWaitParity | Op::Tap) {
            self.idle_polls = 0;
            self.idle_rounds = 0;
        }
        Ok(Entered { site, action, pause })
    }

    /// Before an acquire: other lanes go first, and if it is the loop's last acquire once more, something must change.
    pub(crate) fn before_poll(&mut self, site: u32, address: u64) -> Outcome<()> {
        let current = self.current;
        self.count_poll()?;
        let version = self.version;
        let lane = self.lane_mut();
        let again = lane.poll == Some((site, address, version));
        if again {
            self.parked.push(current);
        } else {
            self.ready.push(current);
        }
        Ok(())
    }

    /// A read that a loop may repeat. So many in a row that nothing else happens are a deadlock; before that data
    /// that is under way arrives.
    pub(crate) fn count_poll(&mut self) -> Outcome<()> {
        self.idle_polls += 1;
        if self.idle_polls.is_multiple_of(IDLE_POLLS / 256) && self.perform_one() {
            self.idle_polls = 0;
        }
        if self.idle_polls > IDLE_POLLS {
            self.ready.push(self.current);
            self.failure = Some(self.deadlock());
            return Err(Stop);
        }
        Ok(())
    }

    /// What waits may go on.
    pub(crate) fn something_happened(&mut self) {
        self.idle_polls = 0;
        self.idle_rounds = 0;
    }

    /// The current lane gives way, and may go on at any time. The caller suspends it.
    pub(crate) fn yield_lane(&mut self) {
        self.ready.push(self.current);
    }

    /// A strong write: poll loops go on. Those that wait for a weak one race with it.
    pub(crate) fn word_changes(&mut self) {
        self.version += 1;
        self.ready.append(&mut self.parked);
    }

    fn action(&mut self, site: u32, tap: Option<&str>) -> Option<Action> {
        let (cta, lane) = (self.cta().number, self.current.lane as u32);
        let index = self.cta().index;
        for &number in &self.sites.get(site).mutations {
            let mutation = &self.schedule.mutations[number];
            let at = &mutation.site;
            if at.cta.is_some_and(|cta| cta != index)
                || at.lane.is_some_and(|wanted| wanted != lane)
                || at.tap.is_some_and(|name| Some(name) != tap)
            {
                continue;
            }
            if let Some(wanted) = at.occurrence {
                let count = self.occurrences.entry((number, cta, lane)).or_default();
                *count += 1;
                if *count != wanted + 1 {
                    continue;
                }
            }
            self.stats.mutated += 1;
            return Some(mutation.action);
        }
        None
    }

    /// Leaves a report of the current lane.
    #[cold]
    pub(crate) fn fail(&mut self, site: u32, kind: Kind) -> Stop {
        let location = self.sites.get(site).location.clone();
        self.failure = Some(self.report(self.current, location, kind));
        Stop
    }

    pub(crate) fn report(&self, lane: LaneRef, location: Place, kind: Kind) -> Report {
        let cta = self.slots[lane.slot].as_ref().expect("a lane that fails is resident");
        let kernel = self.launches[cta.launch].name.as_str().into();
        Report { kernel, cta: cta.index, lane: lane.lane as u32, location, kind }
    }

    /// The other side of a race.
    pub(crate) fn party(&self, access: &Access) -> Box<Party> {
        let (cta, actor) = match access.who.actor() {
            Actor::Lane { cta, lane } => (cta, PartyActor::Lane(lane)),
            Actor::Warp { cta, warp } => (cta, PartyActor::Warp(warp)),
            Actor::Group(number) => {
                let Group { cta, lane, kind, completed } = self.groups[number as usize];
                let actor = match kind {
                    GroupKind::Wgmma => PartyActor::Warpgroup(lane / WARPGROUP),
                    GroupKind::Copy | GroupKind::Bulk => {
                        PartyActor::Copy { lane, completed: completed.is_some() }
                    }
                };
                (cta, actor)
            }
        };
        let launch =
            self.launches.iter().rfind(|launch| launch.first_cta <= cta).expect("CTAs belong to launches");
        let entry = self.sites.get(access.site());
        Box::new(Party {
            kernel: launch.name.clone(),
            cta: cta - launch.first_cta,
            actor,
            op: entry.info.op,
            location: entry.location.clone(),
        })
    }

    /// The kernel returned in the current lane, or panicked.
    pub(crate) fn exit(&mut self, result: Result<(), String>) {
        self.idle_polls = 0;
        self.idle_rounds = 0;
        let LaneRef { slot, lane } = self.current;
        if let Err(message) = result {
            // Where the panic was is not to be had without a hook; the message that was printed has it.
            let latest = self.lane_mut().latest;
            let location = latest.map_or_else(Place::caller, |site| self.sites.get(site).location.clone());
            self.failure = Some(self.report(self.current, location, Kind::Panic { message }));
            return;
        }
        let cta = self.slots[slot].as_mut().expect("the current lane's CTA is resident");
        let copies = &cta.lanes[lane].copies;
        if let Some((site, copies)) = copies.unfinished() {
            self.fail(site, Kind::NotWaited { copies });
            return;
        }
        let warp = &mut cta.warps[lane / WARP as usize];
        // At bar.sync, or at an instruction of its warp: either can no longer be completed.
        let stranded =
            warp.at.or_else(|| cta.warps.iter().find_map(|warp| warp.at.filter(|at| at.0 == Op::BarSync)));
        if let Some((_, site)) = stranded {
            let other = format!("others are at {}", self.sites.get(site).info);
            self.fail(site, Kind::Divergence { this: "exits".to_owned(), other });
            return;
        }
        if let Some((site, copies)) = cta.lanes[lane].bulk.unfinished(&self.groups) {
            self.fail(site, Kind::NotWaited { copies });
            return;
        }
        let warp = &cta.warps[lane / WARP as usize];
        if let Some(warpgroup) = cta.warpgroups.get(lane / WARPGROUP as usize)
            && let Some((site, copies)) = warpgroup.unfinished(warp.waited)
        {
            self.fail(site, Kind::NotWaited { copies });
            return;
        }
        if !cta.mbarriers.is_empty() || cta.peers.len() > 1 {
            let view = cta.clocks[lane].view().clone();
            cta.ended.join(&view);
        }
        let leader = cta.number - cta.rank();
        let warp = &mut cta.warps[lane / WARP as usize];
        warp.exited += 1;
        let warp_exited = warp.exited == WARP;
        cta.lanes[lane].exited = true;
        cta.exited += 1;
        if cta.exited as usize == cta.lanes.len() {
            if self.may_end(slot).is_err() {
                return;
            }
            let cta = self.slots[slot].take().expect("it was there");
            self.spare_shared.push(cta.shared);
            self.cta_ended(cta.launch);
        }
        if warp_exited {
            self.cluster_progress(leader);
        }
    }
}

//! A run: its whole state, the start of an instruction, and its reports. What instructions do is in `exec`.

use std::{collections::HashMap, fmt::Display, panic::Location, rc::Rc};

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus, seq::SliceRandom};

use crate::{
    clock::{Actor, Joins, View, WARP, WARPGROUP},
    fault::{Action, Allowed},
    memory::{Global, Tracked},
    report::{Kind, Party, PartyActor, Report},
    schedule::{Order, Schedule},
    shadow::{Access, Completion, Group, GroupKind},
    site::{Op, Place},
    sites::{At, Sites},
    state::{
        barrier::ClusterBarrier,
        cta::Cta,
        lane::{Lane, LaneRef},
        launch::{Dependent, LaunchInfo, Shape},
        transfer::Transfer,
    },
    stats::Stats,
};

/// The run is over: a report was left in [`Run::failure`], and the lane must not go on.
pub(crate) struct Stop;
pub(crate) type Outcome<T> = Result<T, Stop>;

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
    pub(crate) idle_polls: u64,
    pub(crate) idle_rounds: u32,
    pub(crate) instructions: u64,
    /// How often a lane came to a mutation that asks for one occurrence.
    occurrences: HashMap<(usize, u32, u32), u32>,
    pub(crate) stats: Stats,
    pub(crate) failure: Option<Report>,
    pub(crate) spare_shared: Vec<Tracked>,
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

    /// The dimensions of the current lane's launch.
    pub(crate) fn shape(&self) -> &Shape {
        &self.launches[self.cta().launch].shape
    }

    /// Where the current lane lies in its CTA.
    pub(crate) fn thread_idx(&self) -> [u32; 3] {
        self.shape().lane(self.current.lane as u32)
    }

    /// Where its CTA lies in the grid.
    pub(crate) fn block_idx(&self) -> [u32; 3] {
        self.shape().cta(self.cta().index)
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

    /// At the start of an instruction: counts it, finds the seeded fault, and decides whether others go
    /// first.
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
            | Op::StRelease
            | Op::Atom
            | Op::Red
            | Op::MbarrierInval
            | Op::MbarrierExpectTx
            | Op::MbarrierArrive
            | Op::MbarrierArriveCluster
            | Op::MbarrierArriveExpectTx => {
                self.ready.push(current);
                true
            }
            _ => false,
        };
        if !matches!(
            op,
            Op::LdAcquire
                | Op::LdRelaxed
                | Op::LdGlobal
                | Op::LdShared
                | Op::MbarrierTryWaitParity
                | Op::MbarrierTryWait
                | Op::MbarrierTestWait
                | Op::Tap
        ) {
            self.idle_polls = 0;
            self.idle_rounds = 0;
        }
        Ok(Entered { site, action, pause })
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

    /// Whether something that is to be reported at a site is allowed there; counted.
    #[cold]
    pub(crate) fn allows(&mut self, allowed: Allowed, site: u32) -> bool {
        let info = self.sites.get(site).info;
        let mut all = self.schedule.allowances.iter();
        let Some(number) = all.position(|it| it.allowed == allowed && it.site.matches(&info)) else {
            return false;
        };
        self.stats.allowed.resize(self.schedule.allowances.len(), 0);
        self.stats.allowed[number] += 1;
        true
    }

    /// Leaves a report of the current lane.
    #[cold]
    pub(crate) fn fail(&mut self, site: u32, kind: Kind) -> Stop {
        let location = self.sites.get(site).location.clone();
        self.failure = Some(self.report(self.current, location, kind));
        Stop
    }

    /// What is executed at a site.
    pub(crate) fn op(&self, site: u32) -> Op {
        self.sites.get(site).info.op
    }

    /// A read of what nobody wrote.
    #[cold]
    pub(crate) fn poisoned(&mut self, site: u32, address: String) -> Stop {
        let op = self.op(site).to_string();
        self.fail(site, Kind::Poison { op, address })
    }

    /// A fault of an operand.
    #[cold]
    pub(crate) fn operand(&mut self, site: u32, reason: impl Display) -> Stop {
        let op = self.op(site);
        self.fail(site, Kind::Operand { op, reason: reason.to_string() })
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

    /// The number in the run of the CTA that made an access, or issued the operation that did.
    pub(crate) fn issuer(&self, access: &Access) -> u32 {
        match access.who.actor() {
            Actor::Lane { cta, .. } | Actor::Warp { cta, .. } => cta,
            Actor::Group(number) => self.groups[number as usize].cta,
        }
    }

    /// A new actor, issued by the current lane.
    pub(crate) fn new_actor(&mut self, kind: GroupKind, completed: Option<Completion>) -> u32 {
        let (cta, lane) = (self.cta().number, self.current.lane as u32);
        self.groups.push(Group { cta, lane, kind, completed });
        self.groups.len() as u32 - 1
    }
}

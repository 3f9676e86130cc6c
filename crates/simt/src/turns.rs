//! Whose turn it is: CTAs are dispatched, lanes are picked, and end.

use std::rc::Rc;

use rand::RngExt;

use crate::{
    clock::{LaneClock, View, WARP, WARPGROUP},
    report::{Kind, Report},
    run::Run,
    schedule::Asynchrony,
    site::{Op, Place},
    state::{
        barrier::Named,
        cta::{Cta, Warp},
        lane::{Lane, LaneRef},
        registers::Registers,
        warpgroup::Warpgroup,
    },
};

/// How often all parked poll loops are tried again, without anything else happening, before it is a deadlock.
const IDLE_ROUNDS: u32 = 64;

/// What the scheduler does next.
pub(crate) enum Next {
    Resume(LaneRef),
    Done,
    Failed(Report),
}

impl Run {
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
                maps: Vec::new(),
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
        let stranded = warp
            .at
            .or_else(|| warp.stranded_by(lane))
            .or_else(|| cta.warps.iter().find_map(|warp| warp.at.filter(|at| at.0 == Op::BarSync)));
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
            for mbarrier in &cta.mbarriers {
                let most = self.stats.mbarrier_phases.entry(mbarrier.offset as u32).or_default();
                *most = mbarrier.phase.max(*most);
            }
            self.spare_shared.push(cta.shared);
            self.cta_ended(cta.launch);
        }
        if warp_exited {
            self.cluster_progress(leader);
        }
    }
}

//! Clusters: their barrier, and access to the shared memory of other CTAs.

use std::rc::Rc;

use bytemuck::Pod;

use crate::{
    clock::{LaneClock, View, WARP, lanes},
    fault::{Action, Allowed},
    memory::{SHARED_BASE, shared_name},
    report::Kind,
    run::{Outcome, Run},
    shadow::{Access, Kind as How, Observer, Order},
    site::Op,
    state::{
        barrier::ClusterBarrier,
        cta::{Inbound, Warp},
        lane::LaneRef,
    },
};

/// The shared memory of the CTA of rank r begins at (r + 1) << 24 among the addresses of a cluster.
const WINDOW_BITS: u32 = 24;
/// What an address is within its CTA.
const WINDOW: u32 = (1 << WINDOW_BITS) - 1;

/// The address in the CTA of a rank of what is at `address` in this CTA, or in any other one of the cluster.
pub(crate) fn in_cta(address: u32, rank: u32) -> u32 {
    (rank + 1) << WINDOW_BITS | address & WINDOW
}

impl Run {
    /// The number of the first CTA of the current one's cluster.
    fn leader(&self) -> u32 {
        self.cta().number - self.cta().rank()
    }

    fn cluster_barrier(&mut self) -> &mut ClusterBarrier {
        let (leader, peers) = (self.leader(), self.cta().peers.clone());
        self.clusters.entry(leader).or_insert_with(|| ClusterBarrier {
            peers,
            phase: 0,
            arrived: None,
            done: None,
            waiting: Vec::new(),
        })
    }

    /// Notes whether the seeded fault of one of a warp's lanes takes the order away.
    fn weaken_warp(&mut self, action: Option<Action>) {
        let warp = self.current.lane / WARP as usize;
        self.cta_mut().warps[warp].weak |= matches!(action, Some(Action::Weaken));
    }

    /// The current lane comes to barrier.cluster.arrive.
    pub(crate) fn cluster_arrive(
        &mut self,
        site: u32,
        action: Option<Action>,
        (relaxed, aligned): (bool, bool),
    ) -> Outcome<()> {
        self.weaken_warp(action);
        if !self.gather_at(site, aligned)? {
            return Ok(());
        }
        let LaneRef { slot, lane } = self.current;
        let number = lane / WARP as usize;
        let phase = self.cluster_barrier().phase;
        let cta = self.cta_mut();
        let warp = &mut cta.warps[number];
        if warp.cluster_phase.is_some() {
            return Err(self.operand(site, "the warp arrives again before it has waited"));
        }
        warp.cluster_phase = Some(phase);
        let published = match (warp.weak, relaxed) {
            (true, _) => None,
            (false, false) => {
                warp.snapshot = None;
                LaneClock::release_together(&mut cta.clocks, std::iter::once(lanes(number)))
            }
            // What its lanes have fenced.
            (false, true) => cta.lanes[lanes(number)].iter().filter_map(|lane| lane.fenced.clone()).fold(
                None,
                |all: Option<View>, fenced| match all {
                    Some(mut all) => {
                        all.join(&fenced);
                        Some(all)
                    }
                    None => Some(View::clone(&fenced)),
                },
            ),
        };
        if let Some(published) = published {
            match &mut self.cluster_barrier().arrived {
                Some(arrived) => arrived.join(&published),
                arrived => *arrived = Some(published),
            }
        }
        self.resume(slot, number);
        let leader = self.leader();
        self.cluster_progress(leader);
        Ok(())
    }

    /// The current lane comes to barrier.cluster.wait.
    pub(crate) fn cluster_wait(&mut self, site: u32, action: Option<Action>, aligned: bool) -> Outcome<()> {
        self.weaken_warp(action);
        if !self.gather_at(site, aligned)? {
            return Ok(());
        }
        let LaneRef { slot, lane } = self.current;
        let number = lane / WARP as usize;
        let Some(arrived) = self.cta().warps[number].cluster_phase else {
            return Err(self.operand(site, "the warp waits without having arrived"));
        };
        let barrier = self.cluster_barrier();
        if arrived == barrier.phase {
            barrier.waiting.push((slot, number));
        } else {
            let done = barrier.done.clone();
            self.pass_cluster(slot, number, done.as_ref());
        }
        Ok(())
    }

    /// A warp passes the barrier of its cluster.
    fn pass_cluster(&mut self, slot: usize, number: usize, done: Option<&Rc<View>>) {
        let Self { slots, joins, .. } = self;
        let cta = slots[slot].as_mut().expect("a warp that waits is resident");
        let warp = &mut cta.warps[number];
        warp.cluster_phase = None;
        if let Some(done) = done
            && !warp.weak
        {
            for clock in &mut cta.clocks[lanes(number)] {
                clock.acquire(done, joins);
            }
        }
        self.resume(slot, number);
    }

    /// A warp has arrived at the barrier of the cluster with this first CTA, or has exited: perhaps that was
    /// the last one.
    pub(crate) fn cluster_progress(&mut self, leader: u32) {
        let Self { clusters, slots, stats, .. } = self;
        let Some(barrier) = clusters.get_mut(&leader) else { return };
        let mut somebody = false;
        for (&slot, number) in barrier.peers.iter().zip(leader..) {
            // One that has ended has exited.
            let Some(cta) = slots[slot].as_ref().filter(|cta| cta.number == number) else { continue };
            somebody = true;
            let here = |warp: &Warp| warp.exited == WARP || warp.cluster_phase == Some(barrier.phase);
            if !cta.warps.iter().all(here) {
                return;
            }
        }
        if !somebody {
            clusters.remove(&leader);
            return;
        }
        barrier.phase += 1;
        barrier.done = barrier.arrived.take().map(Rc::new);
        stats.cluster_barriers += 1;
        let (waiting, done) = (std::mem::take(&mut barrier.waiting), barrier.done.clone());
        for (slot, warp) in waiting {
            self.pass_cluster(slot, warp, done.as_ref());
        }
    }

    /// mapa.
    pub(crate) fn mapa(&mut self, site: u32, address: u32, rank: u32) -> Outcome<u32> {
        let (size, limit) = (self.cta().peers.len(), self.cta().shared.bytes().len());
        if rank as usize >= size {
            return Err(self.operand(site, format!("rank {rank} in a cluster of {size}")));
        }
        if address.checked_sub(SHARED_BASE).is_none_or(|offset| offset as usize > limit) {
            let reason = format!("{address:#x} is no address of shared memory");
            return Err(self.operand(site, reason));
        }
        Ok(in_cta(address, rank))
    }

    /// Takes an address of the cluster apart: the slot of the CTA, and the address there.
    pub(crate) fn cluster_address(&mut self, site: u32, address: u32) -> Outcome<(usize, u32)> {
        let local = address & WINDOW;
        match address >> WINDOW_BITS {
            0 if self.op(site) == Op::MbarrierArriveCluster && self.allows(Allowed::FirstOfPair, site) => {
                let pair = self.cta().rank() & !1;
                Ok((self.peer(site, pair)?, local))
            }
            0 => Ok((self.current.slot, local)),
            window => Ok((self.peer(site, window - 1)?, local)),
        }
    }

    /// The slot of a CTA of the cluster, which must have started, and not ended.
    pub(crate) fn peer(&mut self, site: u32, rank: u32) -> Outcome<usize> {
        let cta = self.cta();
        let (own, index) = (cta.rank(), cta.index - cta.rank() + rank);
        let Some(&slot) = cta.peers.get(rank as usize) else {
            let reason = format!("CTA of rank {rank} in a cluster of {}", cta.peers.len());
            return Err(self.operand(site, reason));
        };
        if rank == own {
            return Ok(slot);
        }
        let number = cta.number - own + rank;
        if !cta.clocks[self.current.lane].view().has_heard_of(number) {
            return Err(self.fail(site, Kind::NotStarted { op: self.op(site), peer: index }));
        }
        if self.slots[slot].as_ref().is_none_or(|cta| cta.number != number) {
            let clock = &self.cta().clocks[self.current.lane];
            let access = Access::new(clock.who(), clock.epoch(), How::StrongWrite, site);
            let access = self.party(&access);
            return Err(self.fail(site, Kind::Departed { peer: index, access, ended: true }));
        }
        Ok(slot)
    }

    /// A weak load by the current lane from shared memory of any CTA of the cluster.
    pub(crate) fn ld_cluster<T: Pod>(&mut self, site: u32, address: u32) -> Outcome<T> {
        let (slot, offset) = self.touch_cluster(site, address, size_of::<T>(), How::Read)?;
        let shared = &self.slots[slot].as_ref().expect("it was found there").shared;
        Ok(bytemuck::pod_read_unaligned(&shared.bytes()[offset..offset + size_of::<T>()]))
    }

    /// Likewise a store.
    pub(crate) fn st_cluster<T: Pod>(&mut self, site: u32, address: u32, value: T) -> Outcome<()> {
        let (slot, offset) = self.touch_cluster(site, address, size_of::<T>(), How::Write)?;
        let shared = &mut self.slots[slot].as_mut().expect("it was found there").shared;
        shared.write(offset, bytemuck::bytes_of(&value));
        Ok(())
    }

    /// Checks and records an access of the current lane to shared memory of a CTA of the cluster, which must
    /// not end before it: the slot, and where it is there.
    fn touch_cluster(&mut self, site: u32, address: u32, bytes: usize, how: How) -> Outcome<(usize, usize)> {
        let (slot, local) = self.cluster_address(site, address)?;
        let offset = self.shared_range(site, slot, local, bytes, bytes as u32)?;
        let Self { groups, snapshots, slots, current, .. } = self;
        let own = slots[current.slot].as_ref().expect("the current lane's CTA is resident");
        let clock = own.clocks[current.lane].clone();
        let access = Access::new(clock.who(), clock.epoch(), how, site);
        let order = Order { groups, snapshots, me: Observer::Lane(&clock) };
        let cta = slots[slot].as_mut().expect("it was found there");
        let raced = cta.shared.admit(offset, bytes, access, &order);
        let poisoned = if how == How::Read { cta.shared.first_poisoned(offset, bytes) } else { None };
        let is_known =
            |inbound: &Inbound| (inbound.access.who, inbound.access.clock) == (access.who, access.clock);
        if slot != current.slot && !cta.inbound.last().is_some_and(is_known) {
            cta.inbound.push(Inbound { access, mbarrier: None, seen: None });
        }
        match (raced, poisoned) {
            (Err((byte, old)), _) => Err(self.race(site, how, shared_name(byte), &old)),
            (_, Some(byte)) => Err(self.poisoned(site, shared_name(byte))),
            _ => Ok((slot, offset)),
        }
    }

    /// All lanes of the CTA in this slot have exited: whether every access to its shared memory by others
    /// than lanes of its own is ordered before the end of one of these.
    pub(crate) fn may_end(&mut self, slot: usize) -> Outcome<()> {
        let Self { slots, groups, snapshots, .. } = self;
        let cta = slots[slot].as_mut().expect("the current lane's CTA is resident");
        if cta.inbound.is_empty() {
            return Ok(());
        }
        let mut view = cta.ended.clone();
        view.set_ended(cta.lanes.len() as u32);
        let order = Order { groups, snapshots, me: Observer::View(&view) };
        let late = cta.inbound.iter().filter(|inbound| !inbound.is_over(&order));
        let late: Vec<Access> = late.map(|inbound| inbound.access).collect();
        let Some(first) = late.first() else { return Ok(()) };
        let (peer, number) = (cta.index, cta.number);
        let access = self.party(first);
        let own = self.issuer(first) == number;
        let kind = if own {
            Kind::NotWaited { copies: late.len() }
        } else {
            Kind::Departed { peer, access, ended: false }
        };
        Err(self.fail(first.site(), kind))
    }
}

//! mbarriers, and the fences that asynchronous operations need.

use std::rc::Rc;

use crate::{
    clock::{Actor, LaneClock, MAX_MBARRIERS, Space, View, WARP, Who},
    fault::{Action, Allowed},
    memory::{SHARED_BASE, shared_name},
    report::Kind,
    run::{Outcome, Run},
    shadow::{Access, Completion, Kind as How, Observer, Order},
    site::Op,
    state::{
        cta::Inbound,
        lane::LaneRef,
        mbarrier::{Arrive, MAX_COUNT, MBARRIER, Mbarrier, Scope, Signal, state},
    },
};

impl Run {
    /// Finds an mbarrier of the CTA in this slot.
    fn find_mbarrier(&mut self, site: u32, slot: usize, bar: u32) -> Outcome<usize> {
        self.locate_shared(site, bar, MBARRIER)?;
        let offset = (bar - SHARED_BASE) as usize;
        let cta = self.slots[slot].as_ref().expect("whoever names its mbarrier knows it is there");
        if let Some(number) =
            cta.mbarriers.iter().position(|mbarrier| mbarrier.is_valid && mbarrier.offset == offset)
        {
            return Ok(number);
        }
        let poisoned = cta.shared.first_poisoned(offset, MBARRIER);
        Err(match poisoned {
            Some(byte) => self.poisoned(site, shared_name(byte)),
            None => self.operand(site, format!("no mbarrier was initialised at {}", shared_name(offset))),
        })
    }

    pub(crate) fn mbarrier_init(&mut self, site: u32, bar: u32, count: u32) -> Outcome<()> {
        let offset = self.locate_shared(site, bar, MBARRIER)?;
        if !(1..=MAX_COUNT).contains(&i64::from(count)) {
            return Err(self.operand(site, format!("a count of {count}, not one of 1 to {MAX_COUNT}")));
        }
        let again = self.cta().mbarriers.iter().position(|mbarrier| mbarrier.offset == offset);
        if again.is_none() && self.cta().mbarriers.len() as u32 == MAX_MBARRIERS {
            return Err(self.operand(site, format!("the machine has {MAX_MBARRIERS} mbarriers for a CTA")));
        }
        // An mbarrier that is there already is refused here, too.
        self.touch_shared(site, offset, MBARRIER, How::Write, None)?;
        let lane = self.current.lane;
        let cta = self.cta_mut();
        cta.shared.write(offset, &[0; MBARRIER]);
        let clock = &cta.clocks[lane];
        let init = Access::new(clock.who(), clock.epoch(), How::Write, site);
        // One that was there before counts its epochs on: what is known of them must not order what comes
        // now.
        let epoch = again.map_or(0, |number| cta.mbarriers[number].epoch) + 1;
        let number = again.unwrap_or(cta.mbarriers.len());
        let done = View::new(cta.number, cta.lanes.len() as u32);
        let mbarrier = Mbarrier {
            is_valid: true,
            offset,
            count,
            pending: count,
            tx: 0,
            phase: 0,
            epoch,
            born: epoch,
            users: vec![(0, 0); cta.lanes.len()],
            init,
            fenced: None,
            current: None,
            done: Rc::new(done),
            current_of_cluster: None,
            done_of_cluster: None,
            waiters: Vec::new(),
        };
        match cta.mbarriers.get_mut(number) {
            Some(place) => *place = mbarrier,
            None => cta.mbarriers.push(mbarrier),
        }
        Ok(())
    }

    /// mbarrier.inval: all that lanes, other CTAs and asynchronous operations did to it must happen before.
    pub(crate) fn mbarrier_inval(&mut self, site: u32, bar: u32) -> Outcome<()> {
        let op = Op::MbarrierInval;
        let LaneRef { slot, lane } = self.current;
        let number = self.own_mbarrier(site, bar)?;
        let Self { slots, groups, snapshots, .. } = self;
        let cta = slots[slot].as_ref().expect("the current lane's CTA is resident");
        let (mbarrier, clock) = (&cta.mbarriers[number], &cta.clocks[lane]);
        let (offset, phase) = (mbarrier.offset, mbarrier.phase);
        let order = Order { groups, snapshots, me: Observer::Lane(clock) };
        let of_lane = |(&(epoch, at), lane): (&(u32, u32), u32)| {
            (epoch > 0).then(|| Access::new(Who::lane(cta.number, lane), epoch, How::StrongWrite, at))
        };
        let used = mbarrier.users.iter().zip(0..).filter_map(of_lane);
        let used_late = used.into_iter().find(|access| !order.is_after(access));
        let told = cta.inbound.iter().filter(|inbound| inbound.mbarrier == Some(number));
        let told_late = told.into_iter().find(|inbound| !inbound.is_over(&order));
        if let Some(late) = used_late.or_else(|| told_late.map(|inbound| inbound.access)) {
            let (address, other) = (shared_name(offset), self.party(&late));
            return Err(self.fail(site, Kind::Race { op, address, other }));
        }
        let most = self.stats.mbarrier_phases.entry(offset as u32).or_default();
        *most = phase.max(*most);
        self.cta_mut().mbarriers[number].is_valid = false;
        self.touch_shared(site, offset, MBARRIER, How::Write, None)?;
        self.cta_mut().shared.poison(offset, MBARRIER);
        Ok(())
    }

    /// mbarrier.expect_tx.
    pub(crate) fn mbarrier_expect_tx(&mut self, site: u32, bar: u32, bytes: u32) -> Outcome<()> {
        let number = self.own_mbarrier(site, bar)?;
        self.expect(site, number, bytes)?;
        self.mbarrier_progress(self.current.slot, number);
        Ok(())
    }

    fn expect(&mut self, site: u32, number: usize, bytes: u32) -> Outcome<()> {
        let mbarrier = &mut self.cta_mut().mbarriers[number];
        mbarrier.tx += i64::from(bytes);
        if mbarrier.tx > MAX_COUNT {
            let reason = format!("{} bytes expected, of at most {MAX_COUNT}", mbarrier.tx);
            return Err(self.operand(site, reason));
        }
        Ok(())
    }

    pub(crate) fn fence_mbarrier_init(&mut self) {
        let lane = self.current.lane;
        let cta = self.cta_mut();
        let who = cta.clocks[lane].who();
        let mut published = View::new(cta.number, cta.lanes.len() as u32);
        let mut is_any = false;
        for number in 0..cta.mbarriers.len() {
            let told = cta.lane_of_mbarrier(number);
            let mbarrier = &mut cta.mbarriers[number];
            if mbarrier.is_valid && mbarrier.init.who == who && mbarrier.fenced.is_none() {
                mbarrier.fenced = Some(cta.clocks[lane].epoch());
                published.set(told, mbarrier.born);
                is_any = true;
            }
        }
        // Also a relaxed arrival at the cluster's barrier then tells of the initialisations (PTX ISA,
        // "membar, fence").
        if is_any {
            let fenced = &mut cta.lanes[lane].fenced;
            if let Some(earlier) = fenced.take() {
                published.join(&earlier);
            }
            *fenced = Some(Rc::new(published));
        }
        cta.clocks[lane].advance();
        cta.warps[lane / WARP as usize].snapshot = None;
    }

    pub(crate) fn fence_proxy_async(&mut self, space: Space) {
        let lane = self.current.lane;
        let cta = self.cta_mut();
        cta.clocks[lane].fence(space);
        cta.warps[lane / WARP as usize].snapshot = None;
    }

    /// Finds an mbarrier of the own CTA for a lane, whose initialisation must be ordered before.
    pub(crate) fn own_mbarrier(&mut self, site: u32, bar: u32) -> Outcome<usize> {
        let LaneRef { slot, lane } = self.current;
        let number = self.find_mbarrier(site, slot, bar)?;
        let cta = self.cta();
        let (init, born) = (cta.mbarriers[number].init, cta.mbarriers[number].born);
        let clock = &cta.clocks[lane];
        let is_told = clock.view().knows(cta.number, cta.lane_of_mbarrier(number)) >= born;
        if !is_told && !is_after(clock, &init, init.clock) {
            let (address, other) = (shared_name(cta.mbarriers[number].offset), self.party(&init));
            return Err(self.fail(site, Kind::Race { op: self.op(site), address, other }));
        }
        let cta = self.cta_mut();
        let epoch = cta.clocks[lane].epoch();
        cta.mbarriers[number].users[lane] = (epoch, site);
        Ok(number)
    }

    /// Finds an mbarrier that the current lane, or an operation that it issues, signals from beyond its CTA
    /// or in the asynchronous proxy.
    pub(crate) fn signalled_mbarrier(
        &mut self,
        site: u32,
        slot: usize,
        bar: u32,
        signal: Signal,
    ) -> Outcome<usize> {
        let number = self.find_mbarrier(site, slot, bar)?;
        let clock = &self.cta().clocks[self.current.lane];
        let cta = self.slots[slot].as_ref().expect("it was found there");
        let mbarrier = &cta.mbarriers[number];
        let init = mbarrier.init;
        let is_told = clock.view().knows(cta.number, cta.lane_of_mbarrier(number)) >= mbarrier.born;
        let fenced = mbarrier.fenced.is_some_and(|epoch| is_after(clock, &init, epoch));
        if fenced
            || is_told && mbarrier.fenced.is_some()
            || signal == Signal::Async && is_fenced_after(clock, &init)
        {
            return Ok(number);
        }
        let ordered = is_after(clock, &init, init.clock);
        if ordered && self.allows(Allowed::UnfencedInit, site) {
            return Ok(number);
        }
        let mbarrier = &self.slots[slot].as_ref().expect("it was found there").mbarriers[number];
        let (address, other) = (shared_name(mbarrier.offset), self.party(&init));
        let (op, fence) = (self.op(site), Op::FenceMbarrierInit);
        Err(self.fail(
            site,
            if ordered {
                Kind::Proxy { op, address, other, fence }
            } else {
                Kind::Race { op, address, other }
            },
        ))
    }

    /// mbarrier.arrive, after `expect_tx` if that is the instruction. Gives the state before.
    pub(crate) fn mbarrier_arrive(
        &mut self,
        site: u32,
        action: Option<Action>,
        bar: u32,
        arrive: Arrive,
    ) -> Outcome<u64> {
        let number = self.own_mbarrier(site, bar)?;
        let slot = self.current.slot;
        let state = state(&self.cta().mbarriers[number]);
        self.expect(site, number, arrive.bytes)?;
        self.arrive_at(site, slot, number, arrive, matches!(action, Some(Action::Weaken)))?;
        Ok(state)
    }

    /// mbarrier.arrive at an address of the cluster.
    pub(crate) fn mbarrier_arrive_cluster(
        &mut self,
        site: u32,
        action: Option<Action>,
        bar: u32,
        arrive: Arrive,
    ) -> Outcome<()> {
        let (slot, local) = self.cluster_address(site, bar)?;
        let weaken = matches!(action, Some(Action::Weaken));
        if slot == self.current.slot {
            let number = self.own_mbarrier(site, local)?;
            self.expect(site, number, arrive.bytes)?;
            return self.arrive_at(site, slot, number, arrive, weaken);
        }
        let number = self.signalled_mbarrier(site, slot, local, Signal::Remote)?;
        let clock = &self.cta().clocks[self.current.lane];
        let access = Access::new(clock.who(), clock.epoch(), How::StrongWrite, site);
        let peer = self.slots[slot].as_mut().expect("it was found there");
        let (lane, epoch) = (peer.lane_of_mbarrier(number), peer.mbarriers[number].epoch);
        let seen = Some(Completion { cta: peer.number, lane, epoch: epoch + 1 });
        peer.inbound.push(Inbound { access, mbarrier: Some(number), seen });
        let mbarrier = &mut peer.mbarriers[number];
        mbarrier.tx += i64::from(arrive.bytes);
        if mbarrier.tx > MAX_COUNT {
            let reason = format!("{} bytes expected, of at most {MAX_COUNT}", mbarrier.tx);
            return Err(self.operand(site, reason));
        }
        self.arrive_at(site, slot, number, arrive, weaken)
    }

    /// An arrival of the current lane.
    pub(crate) fn arrive_at(
        &mut self,
        site: u32,
        slot: usize,
        number: usize,
        arrive: Arrive,
        relaxed: bool,
    ) -> Outcome<()> {
        let lane = self.current.lane;
        let mbarrier = &self.slots[slot].as_ref().expect("it was found there").mbarriers[number];
        let Arrive { count, drops, is_incomplete, scope, .. } = arrive;
        if mbarrier.pending < count || count == 0 {
            let reason = match mbarrier.pending {
                0 => format!("an arrival beyond the {} of the phase", mbarrier.count),
                missing => format!("{count} arrivals, of the {missing} that the phase lacks"),
            };
            return Err(self.operand(site, reason));
        }
        if is_incomplete && mbarrier.pending == count {
            return Err(self.operand(site, "an arrival that must not end the phase, and may"));
        }
        let remote = slot != self.current.slot;
        let mut to_cluster = None;
        let published = (!relaxed).then(|| {
            let cta = self.cta_mut();
            if remote {
                if scope == Scope::Cluster {
                    cta.warps[lane / WARP as usize].snapshot = None;
                    to_cluster = Some(cta.clocks[lane].release());
                }
                let leader = cta.number - cta.rank();
                let cluster = leader..leader + cta.peers.len() as u32;
                cta.clocks[lane].view().of_events(cluster, cta.lanes.len() as u32)
            } else {
                cta.warps[lane / WARP as usize].snapshot = None;
                cta.clocks[lane].release()
            }
        });
        let mbarrier = &mut self.slots[slot].as_mut().expect("it was found there").mbarriers[number];
        mbarrier.pending -= count;
        if drops {
            mbarrier.count -= count;
        }
        for (of, published) in
            [(&mut mbarrier.current, published), (&mut mbarrier.current_of_cluster, to_cluster)]
        {
            match (of, published) {
                (Some(current), Some(published)) => current.join(&published),
                (current @ None, Some(published)) => *current = Some(published),
                (_, None) => {}
            }
        }
        self.mbarrier_progress(slot, number);
        Ok(())
    }

    /// An asynchronous operation has moved `bytes`. Gives the epoch that they count for.
    pub(crate) fn complete_tx(&mut self, slot: usize, number: usize, bytes: u32) -> Result<u32, String> {
        let mbarrier = &mut self.slots[slot].as_mut().expect("it cannot have ended").mbarriers[number];
        let epoch = mbarrier.epoch;
        mbarrier.tx -= i64::from(bytes);
        if mbarrier.tx < -MAX_COUNT {
            return Err(format!("{} bytes beyond those expected, of at most {MAX_COUNT}", -mbarrier.tx));
        }
        self.mbarrier_progress(slot, number);
        Ok(epoch)
    }

    fn mbarrier_progress(&mut self, slot: usize, number: usize) {
        let cta = self.slots[slot].as_mut().expect("it was found there");
        let lane = cta.lane_of_mbarrier(number);
        let mbarrier = &mut cta.mbarriers[number];
        if mbarrier.progress(lane) {
            self.ready.append(&mut mbarrier.waiters);
            self.something_happened();
        }
    }
}

/// Whether `clock` is after the `epoch` of the lane that made an access.
fn is_after(clock: &LaneClock, access: &Access, epoch: u32) -> bool {
    matches!(access.who.actor(), Actor::Lane { cta, lane } if clock.is_after(cta, lane, epoch))
}

/// Whether `clock` is after a lane's access across a fence of the asynchronous proxy.
fn is_fenced_after(clock: &LaneClock, access: &Access) -> bool {
    matches!(
        access.who.actor(),
        Actor::Lane { cta, lane } if clock.is_fenced_after(Space::Shared, cta, lane, access.clock)
    )
}

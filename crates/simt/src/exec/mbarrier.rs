//! mbarriers, and the fences that asynchronous operations need.

use std::rc::Rc;

use crate::{
    clock::{Actor, LaneClock, MAX_MBARRIERS, Space, View, WARP},
    fault::Action,
    memory::{SHARED_BASE, shared_name},
    report::Kind,
    run::{Outcome, Run},
    shadow::{Access, Completion, Kind as How},
    site::Op,
    state::{
        cta::Inbound,
        lane::LaneRef,
        mbarrier::{MAX_COUNT, MBARRIER, Mbarrier, Signal},
    },
};

impl Run {
    /// Finds an mbarrier of the CTA in this slot.
    fn find_mbarrier(&mut self, op: Op, site: u32, slot: usize, bar: u32) -> Outcome<usize> {
        self.locate_shared(site, bar, MBARRIER)?;
        let offset = (bar - SHARED_BASE) as usize;
        let cta = self.slots[slot].as_ref().expect("whoever names its mbarrier knows it is there");
        if let Some(number) = cta.mbarriers.iter().position(|mbarrier| mbarrier.offset == offset) {
            return Ok(number);
        }
        let poisoned = cta.shared.first_poisoned(offset, MBARRIER);
        Err(match poisoned {
            Some(byte) => self.fail(site, Kind::Poison { op: op.to_string(), address: shared_name(byte) }),
            None => self.operand(op, site, format!("no mbarrier was initialised at {}", shared_name(offset))),
        })
    }

    pub(crate) fn mbarrier_init(&mut self, site: u32, bar: u32, count: u32) -> Outcome<()> {
        let op = Op::MbarrierInit;
        let offset = self.locate_shared(site, bar, MBARRIER)?;
        if !(1..=MAX_COUNT).contains(&i64::from(count)) {
            return Err(self.operand(op, site, format!("a count of {count}, not one of 1 to {MAX_COUNT}")));
        }
        if self.cta().mbarriers.len() as u32 == MAX_MBARRIERS {
            return Err(self.operand(
                op,
                site,
                format!("the machine has {MAX_MBARRIERS} mbarriers for a CTA"),
            ));
        }
        // An mbarrier that is there already is refused here, too.
        self.touch_shared(site, offset, MBARRIER, How::Write, None)?;
        let lane = self.current.lane;
        let cta = self.cta_mut();
        cta.shared.write(offset, &[0; MBARRIER]);
        let clock = &cta.clocks[lane];
        let done = Rc::new(View::new(cta.number, cta.lanes.len() as u32));
        cta.mbarriers.push(Mbarrier {
            offset,
            count,
            pending: count,
            tx: 0,
            phase: 0,
            init: Access::new(clock.who(), clock.epoch(), How::Write, site),
            fenced: None,
            current: None,
            done,
            waiters: Vec::new(),
        });
        Ok(())
    }

    pub(crate) fn fence_mbarrier_init(&mut self) {
        let lane = self.current.lane;
        let cta = self.cta_mut();
        let clock = &mut cta.clocks[lane];
        for mbarrier in &mut cta.mbarriers {
            if mbarrier.init.who == clock.who() && mbarrier.fenced.is_none() {
                mbarrier.fenced = Some(clock.epoch());
            }
        }
        clock.advance();
        cta.warps[lane / WARP as usize].snapshot = None;
    }

    pub(crate) fn fence_proxy_async(&mut self, space: Space) {
        let lane = self.current.lane;
        let cta = self.cta_mut();
        cta.clocks[lane].fence(space);
        cta.warps[lane / WARP as usize].snapshot = None;
    }

    /// Finds an mbarrier of the own CTA for a lane, whose initialisation must be ordered before.
    pub(crate) fn own_mbarrier(&mut self, op: Op, site: u32, bar: u32) -> Outcome<usize> {
        let LaneRef { slot, lane } = self.current;
        let number = self.find_mbarrier(op, site, slot, bar)?;
        let cta = self.cta();
        let init = cta.mbarriers[number].init;
        if !is_after(&cta.clocks[lane], &init, init.clock) {
            let (address, other) = (shared_name(cta.mbarriers[number].offset), self.party(&init));
            return Err(self.fail(site, Kind::Race { op, address, other }));
        }
        Ok(number)
    }

    /// Finds an mbarrier that the current lane, or an operation that it issues, signals from beyond its CTA or in the
    /// asynchronous proxy.
    pub(crate) fn signalled_mbarrier(
        &mut self,
        op: Op,
        site: u32,
        slot: usize,
        bar: u32,
        signal: Signal,
    ) -> Outcome<usize> {
        let number = self.find_mbarrier(op, site, slot, bar)?;
        let clock = &self.cta().clocks[self.current.lane];
        let mbarrier = &self.slots[slot].as_ref().expect("it was found there").mbarriers[number];
        let init = mbarrier.init;
        let fenced = mbarrier.fenced.is_some_and(|epoch| is_after(clock, &init, epoch));
        if fenced || signal == Signal::Async && is_fenced_after(clock, &init) {
            return Ok(number);
        }
        let ordered = is_after(clock, &init, init.clock);
        let (address, other) = (shared_name(mbarrier.offset), self.party(&init));
        let fence = Op::FenceMbarrierInit;
        Err(self.fail(
            site,
            if ordered {
                Kind::Proxy { op, address, other, fence }
            } else {
                Kind::Race { op, address, other }
            },
        ))
    }

    /// mbarrier.arrive, after `expect_tx` of `bytes` if that is the instruction.
    pub(crate) fn mbarrier_arrive(
        &mut self,
        site: u32,
        action: Option<Action>,
        bar: u32,
        bytes: u32,
    ) -> Outcome<()> {
        let op = self.sites.get(site).info.op;
        let number = self.own_mbarrier(op, site, bar)?;
        let slot = self.current.slot;
        let mbarrier = &mut self.cta_mut().mbarriers[number];
        mbarrier.tx += i64::from(bytes);
        if mbarrier.tx > MAX_COUNT {
            let reason = format!("{} bytes expected, of at most {MAX_COUNT}", mbarrier.tx);
            return Err(self.operand(op, site, reason));
        }
        self.arrive_at(op, site, slot, number, matches!(action, Some(Action::Weaken)))
    }

    /// mbarrier.arrive at an address of the cluster.
    pub(crate) fn mbarrier_arrive_cluster(
        &mut self,
        site: u32,
        action: Option<Action>,
        bar: u32,
    ) -> Outcome<()> {
        let op = self.sites.get(site).info.op;
        let (slot, local) = self.cluster_address(op, site, bar)?;
        let weaken = matches!(action, Some(Action::Weaken));
        if slot == self.current.slot {
            let number = self.own_mbarrier(op, site, local)?;
            return self.arrive_at(op, site, slot, number, weaken);
        }
        let number = self.signalled_mbarrier(op, site, slot, local, Signal::Remote)?;
        let clock = &self.cta().clocks[self.current.lane];
        let access = Access::new(clock.who(), clock.epoch(), How::StrongWrite, site);
        let peer = self.slots[slot].as_mut().expect("it was found there");
        let (lane, phase) = (peer.lane_of_mbarrier(number), peer.mbarriers[number].phase);
        let seen = Some(Completion { cta: peer.number, lane, epoch: phase + 1 });
        peer.inbound.push(Inbound { access, seen });
        self.arrive_at(op, site, slot, number, weaken)
    }

    /// An arrival of the current lane.
    fn arrive_at(&mut self, op: Op, site: u32, slot: usize, number: usize, relaxed: bool) -> Outcome<()> {
        let lane = self.current.lane;
        let mbarrier = &self.slots[slot].as_ref().expect("it was found there").mbarriers[number];
        if mbarrier.pending == 0 {
            let reason = format!("an arrival beyond the {} of the phase", mbarrier.count);
            return Err(self.operand(op, site, reason));
        }
        let remote = slot != self.current.slot;
        let published = (!relaxed).then(|| {
            let cta = self.cta_mut();
            if remote {
                let leader = cta.number - cta.rank();
                let cluster = leader..leader + cta.peers.len() as u32;
                cta.clocks[lane].view().of_events(cluster, cta.lanes.len() as u32)
            } else {
                cta.warps[lane / WARP as usize].snapshot = None;
                cta.clocks[lane].release()
            }
        });
        let mbarrier = &mut self.slots[slot].as_mut().expect("it was found there").mbarriers[number];
        mbarrier.pending -= 1;
        if let Some(published) = published {
            match &mut mbarrier.current {
                Some(current) => current.join(&published),
                current => *current = Some(published),
            }
        }
        self.mbarrier_progress(slot, number);
        Ok(())
    }

    /// An asynchronous operation has moved `bytes`. Gives the phase that they count for.
    pub(crate) fn complete_tx(&mut self, slot: usize, number: usize, bytes: u32) -> Result<u32, String> {
        let mbarrier = &mut self.slots[slot].as_mut().expect("it cannot have ended").mbarriers[number];
        let phase = mbarrier.phase;
        mbarrier.tx -= i64::from(bytes);
        if mbarrier.tx < -MAX_COUNT {
            return Err(format!("{} bytes beyond those expected, of at most {MAX_COUNT}", -mbarrier.tx));
        }
        self.mbarrier_progress(slot, number);
        Ok(phase)
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

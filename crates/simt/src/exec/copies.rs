//! cp.async: copies of a lane, by commit groups.

use rand::RngExt;

use crate::{
    clock::WARP,
    fault::Action,
    report::Kind,
    run::{Outcome, Run},
    schedule::Asynchrony,
    shadow::{CELL, Completion, Group, GroupKind, Kind as How},
    site::Op,
    state::{
        copies::{Copy, Issued},
        mbarrier::Arrive,
    },
};

impl Run {
    pub(crate) fn cp_async(
        &mut self,
        site: u32,
        action: Option<Action>,
        to: u32,
        from: u64,
        [size, bytes]: [u32; 2],
    ) -> Outcome<()> {
        if bytes > size {
            let reason = format!("reads {bytes} bytes, of at most {size}");
            return Err(self.fail(site, Kind::Operand { op: Op::CpAsync, reason }));
        }
        let (size, bytes) = (size as usize, bytes as usize);
        let to = self.locate_shared(site, to, size)?;
        let from = if bytes > 0 { self.locate(site, from, bytes, size)? } else { (0, 0) };

        let next_actor = self.groups.len() as u32;
        let (cta, lane) = (self.cta().number, self.current.lane as u32);
        let copies = &mut self.lane_mut().copies;
        let open = copies.open.get_or_insert(Issued { actor: next_actor, site, copies: 0 });
        open.copies += 1;
        let actor = open.actor;
        let group = copies.completed + copies.groups.len() as u32;
        if actor == next_actor {
            self.groups.push(Group { cta, lane, kind: GroupKind::Copy, completed: None });
        }
        if bytes > 0 {
            let non_coherent = matches!(action, Some(Action::NonCoherent));
            let how = if non_coherent { How::NonCoherentRead } else { How::Read };
            self.touch(site, from, bytes, how, Some(actor))?;
        }
        self.touch_shared(site, to, size, How::Write, Some(actor))?;

        let copy = Copy { group, to, size, from, bytes };
        let at_once = match self.schedule.asynchrony {
            Asynchrony::Early => true,
            Asynchrony::Late => false,
            Asynchrony::Random => self.rng.random_ratio(1, 4),
        };
        if at_once {
            let slot = self.current.slot;
            let cta = self.slots[slot].as_mut().expect("the current lane's CTA is resident");
            copy.perform(&self.global, &mut cta.shared);
            self.stats.copies_at_issue += 1;
        } else {
            self.lane_mut().copies.pending.push(copy);
        }
        self.stats.cp_async += 1;
        self.stats.cp_async_bytes += bytes as u64;
        if size == CELL {
            let (warp, lane) = (self.current.lane / WARP as usize, self.current.lane % WARP as usize);
            self.stats.cp_async_conflicts += self.cta_mut().warps[warp].stores.add(lane, to as u32);
        }
        Ok(())
    }

    pub(crate) fn cp_async_commit_group(&mut self) {
        let copies = &mut self.lane_mut().copies;
        let group = copies.open.take();
        copies.groups.push_back(group);
    }

    /// `cp.async.mbarrier.arrive`: all copies of the lane that are under way complete with the phase that the
    /// arrival is for. Without
    /// `expected` the phase waits for one arrival more, which is this.
    pub(crate) fn cp_async_mbarrier_arrive(&mut self, site: u32, bar: u32, expected: bool) -> Outcome<()> {
        let number = self.own_mbarrier(site, bar)?;
        let current = self.current;
        let cta = self.slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let told = cta.lane_of_mbarrier(number);
        let mbarrier = &mut cta.mbarriers[number];
        mbarrier.pending += u32::from(!expected);
        let completion = Some(Completion { cta: cta.number, lane: told, epoch: mbarrier.epoch + 1 });
        let copies = &mut cta.lanes[current.lane].copies;
        copies.completed += copies.groups.len() as u32;
        for group in copies.groups.drain(..).chain([copies.open.take()]).flatten() {
            self.groups[group.actor as usize].completed = completion;
        }
        for copy in std::mem::take(&mut copies.pending) {
            copy.perform(&self.global, &mut cta.shared);
            self.stats.copies_at_wait += 1;
        }
        // What the lane did itself it does not publish.
        self.arrive_at(site, current.slot, number, Arrive::ONE, true)
    }

    pub(crate) fn cp_async_wait_group(&mut self, pending: u32) {
        let current = self.current;
        let cta = self.slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let epoch = cta.clocks[current.lane].epoch();
        let completion = Completion { cta: cta.number, lane: current.lane as u32, epoch };
        let copies = &mut cta.lanes[current.lane].copies;
        while copies.groups.len() > pending as usize {
            if let Some(group) = copies.groups.pop_front().flatten() {
                self.groups[group.actor as usize].completed = Some(completion);
            }
            copies.completed += 1;
        }
        let completed = copies.completed;
        // Those of one group write distinct bytes, or it were a race: their order does not matter.
        for copy in copies.pending.extract_if(.., |copy| copy.group < completed) {
            copy.perform(&self.global, &mut cta.shared);
            self.stats.copies_at_wait += 1;
        }
    }
}

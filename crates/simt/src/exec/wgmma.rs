//! wgmma: a warpgroup issues it, waits for it, and takes its sums.

use std::rc::Rc;

use rand::RngExt;
use smallvec::SmallVec;

use crate::{
    clock::{LaneClock, WARP, WARPGROUP, lanes},
    run::{Outcome, Run},
    schedule::Asynchrony,
    shadow::{CELL, Completion, GroupKind, Kind as How},
    site::Op,
    state::{
        lane::LaneRef,
        warpgroup::{Group, NUMBERS, PENDING, Sums, number_of},
    },
    wgmma::{Descriptor, M},
};

impl Run {
    /// Which pending sums accumulators stand for, 0 for none.
    fn pending(&mut self, op: Op, site: u32, acc: &[f32]) -> Outcome<u32> {
        let first = acc.first().copied().and_then(number_of);
        if acc.iter().any(|&value| number_of(value) != first) {
            let reason = "some accumulators are changed, or of another wgmma, while others are under way";
            return Err(self.operand(op, site, reason));
        }
        Ok(first.unwrap_or(0))
    }

    /// The current lane comes to wgmma; what its accumulators then hold is the bits of its lane's first `result`.
    pub(crate) fn wgmma(&mut self, site: u32, acc: &[f32], steps: Vec<[u64; 2]>) -> Outcome<()> {
        let op = Op::WgmmaF16;
        let n = 2 * acc.len();
        if !(8..=256).contains(&n) || !n.is_multiple_of(8) {
            let reason = format!("{} accumulators, which is N = {n}, not a multiple of 8 to 256", acc.len());
            return Err(self.operand(op, site, reason));
        }
        if steps.is_empty() {
            return Err(self.operand(op, site, "no steps"));
        }
        let pending = self.pending(op, site, acc)?;
        let lane = self.current.lane;
        let in_group = lane % WARPGROUP as usize;
        if pending == 0
            && let Some(warpgroup) = self.cta_mut().warpgroups.get_mut(lane / WARPGROUP as usize)
        {
            warpgroup.inbox.resize(WARPGROUP as usize * acc.len(), 0.0);
            warpgroup.inbox[in_group * acc.len()..][..acc.len()].copy_from_slice(acc);
        }
        let operands: SmallVec<[u64; 16]> =
            [n as u64, u64::from(pending)].into_iter().chain(steps.iter().copied().flatten()).collect();
        match self.gather_warpgroup(op, site, &operands)? {
            Some(warpgroup) => {
                // Reports name the warpgroup's first lane; the one that runs is the current one again.
                let first = warpgroup * WARPGROUP as usize;
                let current = std::mem::replace(&mut self.current.lane, first);
                let outcome = self.issue_wgmma(site, warpgroup, n, pending, &steps);
                self.current.lane = current;
                outcome
            }
            None => Ok(()),
        }
    }

    /// All lanes of a warpgroup have come to wgmma.
    fn issue_wgmma(
        &mut self,
        site: u32,
        number: usize,
        n: usize,
        pending: u32,
        steps: &[[u64; 2]],
    ) -> Outcome<()> {
        let op = Op::WgmmaF16;
        let LaneRef { slot, .. } = self.current;
        let first = number * WARPGROUP as usize;
        let cta = self.cta_mut();
        let warpgroup = &mut cta.warpgroups[number];
        let group = warpgroup.issued;
        let tag = (group + 1) & NUMBERS;
        if tag != group + 1 {
            return Err(self.operand(op, site, "more groups than the machine can count"));
        }
        let completion =
            Completion { cta: cta.number, lane: cta.lane_of_warpgroup(number), epoch: group + 1 };
        // Each view once; what is a lane's own does not matter to the asynchronous proxy.
        let mut issuers: Vec<LaneClock> = Vec::new();
        for clock in &cta.clocks[first..first + WARPGROUP as usize] {
            if !issuers.iter().any(|known| Rc::ptr_eq(known.view(), clock.view())) {
                issuers.push(clock.clone());
            }
        }
        // It is complete for whoever knows that a warp has waited for it.
        let actor = self.new_actor(GroupKind::Wgmma, Some(completion));
        let mut read = Vec::with_capacity(steps.len());
        for &[a, b] in steps {
            read.push([
                self.operand_rows(site, slot, a, M, actor, &issuers)?,
                self.operand_rows(site, slot, b, n, actor, &issuers)?,
            ]);
        }
        let cta = self.cta_mut();
        let warpgroup = &mut cta.warpgroups[number];
        let sums = if pending == 0 {
            Sums { values: std::mem::take(&mut warpgroup.inbox), group, delivered: 0 }
        } else {
            match warpgroup.sums.remove(&pending) {
                Some(sums) if sums.values.len() == WARPGROUP as usize * n / 2 => {
                    Sums { group, delivered: 0, ..sums }
                }
                _ => {
                    let reason = "the accumulators stand for sums that were taken already, or for others";
                    return Err(self.operand(op, site, reason));
                }
            }
        };
        for earlier in warpgroup.queue.iter_mut().filter(|earlier| earlier.sums == pending) {
            earlier.sums = tag;
        }
        warpgroup.sums.insert(tag, sums);
        warpgroup.queue.push_back(Group { steps: read, sums: tag });
        warpgroup.sites.push(site);
        warpgroup.issued += 1;
        let now = match self.schedule.asynchrony {
            Asynchrony::Early => true,
            Asynchrony::Late => false,
            Asynchrony::Random => self.rng.random_ratio(1, 4),
        };
        let cta = self.cta_mut();
        if now {
            cta.warpgroups[number].perform(&cta.shared, usize::MAX);
        }
        for lane in &mut cta.lanes[first..first + WARPGROUP as usize] {
            lane.result[0] = PENDING | tag;
        }
        self.stats.wgmma += steps.len() as u64;
        self.resume_warpgroup(slot, number);
        Ok(())
    }

    /// Where the rows of an operand lie, each checked and recorded as read.
    fn operand_rows(
        &mut self,
        site: u32,
        slot: usize,
        descriptor: u64,
        rows: usize,
        actor: u32,
        issuers: &[LaneClock],
    ) -> Outcome<Vec<[usize; 2]>> {
        let rows = match Descriptor::decode(descriptor) {
            Ok(descriptor) => descriptor.rows(rows as u32),
            Err(reason) => return Err(self.operand(Op::WgmmaF16, site, reason)),
        };
        let mut offsets = Vec::with_capacity(rows.len());
        for row in rows {
            let mut places = [0; 2];
            for (place, address) in places.iter_mut().zip(row) {
                *place = self.locate_shared(site, address, CELL)?;
                self.keeps_off_mbarriers(site, slot, *place, CELL)?;
                self.touch_shared_async(site, slot, *place, CELL, (actor, How::Read), issuers)?;
            }
            offsets.push(places);
        }
        Ok(offsets)
    }

    /// The current lane comes to wgmma.wait_group.
    pub(crate) fn wgmma_wait_group(&mut self, site: u32, pending: u32, acc: &[f32]) -> Outcome<()> {
        let op = Op::WgmmaWaitGroup;
        let LaneRef { slot, lane } = self.current;
        let (number, warp) = (lane / WARPGROUP as usize, lane / WARP as usize);
        if number >= self.cta().warpgroups.len() {
            return Err(self.operand(op, site, "the lane is in no whole warpgroup of the CTA"));
        }
        self.pending(op, site, acc)?;
        self.agree(op, site, &[u64::from(pending)])?;
        if !self.gather(op, site)? {
            return Ok(());
        }
        let cta = self.cta_mut();
        let warpgroup = &mut cta.warpgroups[number];
        let waited = cta.warps[warp].waited.max(warpgroup.issued.saturating_sub(pending));
        warpgroup.perform(&cta.shared, waited.saturating_sub(warpgroup.performed) as usize);
        if waited > cta.warps[warp].waited {
            cta.warps[warp].waited = waited;
            let told = cta.lane_of_warpgroup(number);
            LaneClock::tell(&mut cta.clocks[lanes(warp)], told, waited);
        }
        self.resume(slot, warp);
        Ok(())
    }

    /// After the wait: a lane takes its sums, if they are there; says whether they are.
    pub(crate) fn wgmma_collect(&mut self, site: u32, acc: &mut [f32]) -> Outcome<bool> {
        let Some(tag) = acc.first().copied().and_then(number_of) else { return Ok(true) };
        let lane = self.current.lane;
        let cta = self.cta_mut();
        let waited = cta.warps[lane / WARP as usize].waited;
        let warpgroup = &mut cta.warpgroups[lane / WARPGROUP as usize];
        let Some(sums) = warpgroup.sums.get_mut(&tag) else {
            let reason = "the accumulators stand for sums that were taken already";
            return Err(self.operand(Op::WgmmaWaitGroup, site, reason));
        };
        if sums.values.len() != WARPGROUP as usize * acc.len() {
            let reason = "the accumulators are only a part of those of their wgmma";
            return Err(self.operand(Op::WgmmaWaitGroup, site, reason));
        }
        let is_done = sums.group < waited;
        if is_done {
            let at = lane % WARPGROUP as usize * acc.len();
            acc.copy_from_slice(&sums.values[at..at + acc.len()]);
            sums.delivered += 1;
            if sums.delivered == WARPGROUP {
                warpgroup.sums.remove(&tag);
            }
        }
        Ok(is_done)
    }
}

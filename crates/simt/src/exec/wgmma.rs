//! wgmma: a warpgroup issues it, waits for it, and takes its sums.

use std::rc::Rc;

use rand::RngExt;
use smallvec::SmallVec;

use crate::{
    clock::{LaneClock, WARP, WARPGROUP, lanes},
    run::{Outcome, Run},
    schedule::Asynchrony,
    shadow::{CELL, Completion, GroupKind, Kind as How},
    state::{
        lane::LaneRef,
        warpgroup::{Group, NUMBERS, PENDING, Step, Sums, number_of},
    },
    wgmma::{Descriptor, M, Matrix, Product},
};

/// A wgmma as a lane has it: its operands but for the accumulators.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LaneStep {
    pub(crate) product: Product,
    /// The descriptor of A, or the registers.
    pub(crate) a: u64,
    pub(crate) registers: [u32; 4],
    pub(crate) b: u64,
    /// Whether the accumulators are added to.
    pub(crate) keeps: bool,
}

/// The accumulators of a lane, and the wgmma of a group that add to them.
pub(crate) type Part<'a> = (&'a [f32], &'a [LaneStep]);

impl Run {
    /// Which pending sums accumulators stand for, 0 for none.
    fn pending(&mut self, site: u32, acc: &[f32]) -> Outcome<u32> {
        let first = acc.first().copied().and_then(number_of);
        if acc.iter().any(|&value| number_of(value) != first) {
            let reason = "some accumulators are changed, or of another wgmma, while others are under way";
            return Err(self.operand(site, reason));
        }
        Ok(first.unwrap_or(0))
    }

    /// The current lane comes to a group of wgmma; the accumulators of each part then hold the bits of its
    /// lane's first `result`, one more for each part.
    pub(crate) fn wgmma(&mut self, site: u32, parts: &[Part<'_>]) -> Outcome<()> {
        let lane = self.current.lane;
        let in_group = lane % WARPGROUP as usize;
        let (mut pending, mut operands) = (Vec::new(), SmallVec::<[u64; 32]>::new());
        for (acc, steps) in parts {
            let n = steps.first().map_or(0, |step| step.product.types.columns(acc.len()));
            if !(8..=256).contains(&n) || !n.is_multiple_of(8) {
                let reason =
                    format!("{} accumulators, which is N = {n}, not a multiple of 8 to 256", acc.len());
                return Err(self.operand(site, reason));
            }
            if steps.iter().any(|step| step.product.types.columns(acc.len()) != n) {
                return Err(self.operand(site, "products of several kinds that add to the same accumulators"));
            }
            let number = self.pending(site, acc)?;
            pending.push(number);
            operands.extend([n as u64, u64::from(number)]);
            for step in *steps {
                let Product { types, in_registers, negated, transposed, .. } = step.product;
                let bits = [in_registers, negated[0], negated[1], transposed[0], transposed[1], step.keeps];
                let flags = bits.iter().fold(types.code(), |flags, &bit| flags << 1 | u64::from(bit));
                operands.extend([step.a, step.b, flags]);
            }
        }
        if let Some(warpgroup) = self.cta_mut().warpgroups.get_mut(lane / WARPGROUP as usize) {
            warpgroup.inbox.resize_with(parts.len(), Vec::new);
            for ((acc, _), values) in parts.iter().zip(&mut warpgroup.inbox) {
                values.resize(WARPGROUP as usize * acc.len(), 0.0);
                values[in_group * acc.len()..][..acc.len()].copy_from_slice(acc);
            }
            let in_registers = parts.iter().flat_map(|part| part.1).filter(|step| step.product.in_registers);
            for (number, step) in in_registers.enumerate() {
                if warpgroup.registers.len() == number {
                    warpgroup.registers.push(vec![[0; 4]; WARPGROUP as usize]);
                }
                warpgroup.registers[number][in_group] = step.registers;
            }
        }
        match self.gather_warpgroup(site, &operands)? {
            Some(warpgroup) => {
                // Reports name the warpgroup's first lane; the one that runs is the current one again.
                let first = warpgroup * WARPGROUP as usize;
                let current = std::mem::replace(&mut self.current.lane, first);
                let outcome = self.issue_wgmma(site, warpgroup, parts, &pending);
                self.current.lane = current;
                outcome
            }
            None => Ok(()),
        }
    }

    /// All lanes of a warpgroup have come to wgmma.
    fn issue_wgmma(&mut self, site: u32, number: usize, parts: &[Part<'_>], pending: &[u32]) -> Outcome<()> {
        let LaneRef { slot, .. } = self.current;
        let first = number * WARPGROUP as usize;
        let cta = self.cta_mut();
        let warpgroup = &mut cta.warpgroups[number];
        let group = warpgroup.issued;
        let tag = warpgroup.numbered + 1;
        warpgroup.numbered += parts.len() as u32;
        if warpgroup.numbered > NUMBERS {
            return Err(self.operand(site, "more groups than the machine can count"));
        }
        let registers = std::mem::take(&mut warpgroup.registers);
        let mut registers = registers.iter();
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
        let mut issued = Vec::with_capacity(parts.iter().map(|part| part.1.len()).sum());
        for ((acc, steps), sums) in parts.iter().zip(tag..) {
            for &LaneStep { product, a, b, keeps, .. } in *steps {
                let [of_a, of_b] = product.transposed;
                let a = if product.in_registers {
                    Matrix::of_registers(registers.next().expect("lanes brought them"))
                } else {
                    self.operand_rows(site, slot, (a, of_a), M, actor, &issuers)?
                };
                let b = self.operand_rows(
                    site,
                    slot,
                    (b, of_b),
                    product.types.columns(acc.len()),
                    actor,
                    &issuers,
                )?;
                issued.push(Step { product, a, b, keeps, sums });
            }
        }
        let count = issued.len() as u64;
        let cta = self.cta_mut();
        let warpgroup = &mut cta.warpgroups[number];
        let inbox = std::mem::take(&mut warpgroup.inbox);
        for (((acc, _), values), (&pending, tag)) in parts.iter().zip(inbox).zip(pending.iter().zip(tag..)) {
            let sums = if pending == 0 {
                Sums { values, group, delivered: 0 }
            } else {
                match warpgroup.sums.remove(&pending) {
                    Some(sums) if sums.values.len() == WARPGROUP as usize * acc.len() => {
                        Sums { group, delivered: 0, ..sums }
                    }
                    _ => {
                        let reason = "the accumulators stand for sums that were taken already, or for others";
                        return Err(self.operand(site, reason));
                    }
                }
            };
            let queued = warpgroup.queue.iter_mut().flat_map(|group| &mut group.steps);
            for earlier in queued.filter(|earlier| pending > 0 && earlier.sums == pending) {
                earlier.sums = tag;
            }
            warpgroup.sums.insert(tag, sums);
        }
        warpgroup.queue.push_back(Group { steps: issued });
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
        self.stats.wgmma += count;
        self.resume_warpgroup(slot, number);
        Ok(())
    }

    /// Where an operand lies, K-major or not, each piece checked and recorded as read.
    fn operand_rows(
        &mut self,
        site: u32,
        slot: usize,
        (descriptor, is_transposed): (u64, bool),
        rows: usize,
        actor: u32,
        issuers: &[LaneClock],
    ) -> Outcome<Matrix> {
        let descriptor = match Descriptor::decode(descriptor) {
            Ok(descriptor) => descriptor,
            Err(reason) => return Err(self.operand(site, reason)),
        };
        let mut chunk = |address: u32| {
            let place = self.locate_shared(site, address, CELL)?;
            self.keeps_off_mbarriers(site, slot, place, CELL)?;
            self.touch_shared_async(site, slot, place, CELL, (actor, How::Read), issuers)?;
            Ok(place)
        };
        if is_transposed {
            let columns = descriptor.columns(rows as u32);
            return Ok(Matrix::MnMajor(columns.into_iter().map(chunk).collect::<Outcome<_>>()?));
        }
        let rows = descriptor.rows(rows as u32);
        let pair = |[first, second]: [u32; 2]| Ok([chunk(first)?, chunk(second)?]);
        Ok(Matrix::KMajor(rows.into_iter().map(pair).collect::<Outcome<_>>()?))
    }

    /// The current lane comes to wgmma.wait_group.
    pub(crate) fn wgmma_wait_group(&mut self, site: u32, pending: u32, acc: &[f32]) -> Outcome<()> {
        let LaneRef { slot, lane } = self.current;
        let (number, warp) = (lane / WARPGROUP as usize, lane / WARP as usize);
        if number >= self.cta().warpgroups.len() {
            return Err(self.operand(site, "the lane is in no whole warpgroup of the CTA"));
        }
        self.pending(site, acc)?;
        self.agree(site, &[u64::from(pending)])?;
        if !self.gather(site)? {
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
            return Err(self.operand(site, reason));
        };
        if sums.values.len() != WARPGROUP as usize * acc.len() {
            let reason = "the accumulators are only a part of those of their wgmma";
            return Err(self.operand(site, reason));
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

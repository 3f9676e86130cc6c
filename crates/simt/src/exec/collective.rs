//! Instructions that lanes execute together: a warp, a warpgroup or a CTA gathers, and goes on.

use smallvec::SmallVec;

use crate::{
    clock::{WARP, WARPGROUP, lanes},
    fault::Allowed,
    report::Kind,
    run::{Outcome, Run},
    site::Op,
    state::{cta::Partial, lane::LaneRef},
};

/// Warps of a warpgroup.
const WARPS: usize = (WARPGROUP / WARP) as usize;

impl Run {
    /// The current lane comes to a collective instruction. True when all that take part have come; they are
    /// then ready again. What they exchange is the caller's.
    pub(crate) fn arrive(&mut self, site: u32) -> Outcome<bool> {
        let complete = self.gather(site)?;
        let LaneRef { slot, lane } = self.current;
        if self.op(site) == Op::BarSync {
            let cta = self.cta_mut();
            cta.at_barrier += 1;
            if (cta.at_barrier as usize) < cta.lanes.len() {
                return Ok(false);
            }
            cta.at_barrier = 0;
            for warp in 0..cta.warps.len() {
                self.resume(slot, warp);
            }
            return Ok(true);
        }
        if complete {
            self.resume(slot, lane / WARP as usize);
        }
        Ok(complete)
    }

    /// The current lane comes to an instruction of its warp and waits there. True when all lanes of the warp
    /// have come; [`resume`](Self::resume) then lets them go on.
    pub(crate) fn gather(&mut self, site: u32) -> Outcome<bool> {
        // bar.warp.sync need not be the same instruction for all (PTX ISA, "bar.warp.sync", from compute
        // capability 7.0 on): a compiler may copy it to both sides of a branch.
        self.gather_at(site, self.op(site) != Op::BarWarpSync)
    }

    /// Likewise, where all lanes must be at the same instruction or at any of its kind.
    pub(crate) fn gather_at(&mut self, site: u32, aligned: bool) -> Outcome<bool> {
        let op = self.op(site);
        let LaneRef { slot, lane } = self.current;
        let cta = self.slots[slot].as_mut().expect("the current lane's CTA is resident");
        let warp_number = lane / WARP as usize;
        let warp = &mut cta.warps[warp_number];
        let exited = if op == Op::BarSync { cta.exited } else { warp.exited };
        let is_same = |at: (Op, u32)| at == (op, site) || !aligned && at.0 == op;
        let elsewhere = warp.at.filter(|&at| !is_same(at));
        if exited > 0 || elsewhere.is_some() {
            let other = match elsewhere {
                Some((_, other)) => {
                    format!("others of warp {warp_number} are at {}", self.sites.get(other).info)
                }
                None if op == Op::BarSync => format!("{exited} lanes of the CTA have exited"),
                None => format!("{exited} lanes of warp {warp_number} have exited"),
            };
            return Err(self.fail(site, Kind::Divergence { this: format!("is at {op}"), other }));
        }
        warp.at = Some((op, site));
        warp.arrived += 1;
        cta.lanes[lane].waiting = Some(site);
        Ok(warp.arrived == WARP)
    }

    /// The current lane comes to an instruction of the lanes of its warp that are in a mask, and waits there.
    /// True when all of them have come; they are then ready again.
    pub(crate) fn arrive_masked(&mut self, site: u32, mask: u32) -> Outcome<bool> {
        if mask == u32::MAX {
            return self.arrive(site);
        }
        let op = self.op(site);
        let LaneRef { slot, lane } = self.current;
        let bit = 1 << (lane % WARP as usize);
        if mask & bit == 0 {
            return Err(self.operand(site, format!("the mask {mask:#x}, which the lane is not in")));
        }
        let cta = self.slots[slot].as_mut().expect("the current lane's CTA is resident");
        let number = lane / WARP as usize;
        let gone =
            lanes(number).zip(0..).filter(|&(lane, bit)| mask >> bit & 1 == 1 && cta.lanes[lane].exited);
        let gone = gone.count();
        if gone > 0 {
            let other = format!("{gone} lanes of warp {number} that are in its mask have exited");
            return Err(self.fail(site, Kind::Divergence { this: format!("is at {op}"), other }));
        }
        let partial = &mut cta.warps[number].partial;
        let at = partial.iter().position(|at| (at.op, at.site, at.mask) == (op, site, mask));
        let at = at.unwrap_or_else(|| {
            partial.push(Partial { op, site, mask, arrived: 0 });
            partial.len() - 1
        });
        partial[at].arrived |= bit;
        cta.lanes[lane].waiting = Some(site);
        if partial[at].arrived != mask {
            return Ok(false);
        }
        partial.swap_remove(at);
        for lane in lanes(number).zip(0..).filter(|(_, bit)| mask >> bit & 1 == 1).map(|(lane, _)| lane) {
            cta.lanes[lane].waiting = None;
            self.ready.push(LaneRef { slot, lane });
        }
        Ok(true)
    }

    /// Before it comes there: checks that it has the operands that other lanes of its warp have there.
    pub(crate) fn agree(&mut self, site: u32, operands: &[u64]) -> Outcome<()> {
        let (op, lane) = (self.op(site), self.current.lane);
        let warp = &mut self.cta_mut().warps[lane / WARP as usize];
        if warp.at.is_some_and(|at| at != (op, site)) {
            // Not there at all, as is found when it comes.
            return Ok(());
        }
        let first = warp.operands.get_or_insert_with(|| SmallVec::from_slice(operands));
        if **first != *operands {
            let reason = format!("operands {operands:x?}, while other lanes of the warp have {first:x?}");
            return Err(self.operand(site, reason));
        }
        Ok(())
    }

    /// Lets the lanes of a warp that were [gathered](Self::gather) go on.
    pub(crate) fn resume(&mut self, slot: usize, warp: usize) {
        let cta = self.slots[slot].as_mut().expect("lanes that wait are resident");
        for lane in lanes(warp) {
            cta.lanes[lane].waiting = None;
            self.ready.push(LaneRef { slot, lane });
        }
        let warp = &mut cta.warps[warp];
        warp.at = None;
        warp.arrived = 0;
        warp.operands = None;
        warp.weak = false;
    }

    /// The current lane comes to an instruction of its warpgroup and waits there. When all have come, the
    /// number of the warpgroup.
    pub(crate) fn gather_warpgroup(&mut self, site: u32, operands: &[u64]) -> Outcome<Option<usize>> {
        let number = self.current.lane / WARPGROUP as usize;
        if number >= self.cta().warpgroups.len() {
            return Err(self.operand(site, "the lane is in no whole warpgroup of the CTA"));
        }
        self.agree(site, operands)?;
        if !self.gather(site)? {
            return Ok(None);
        }
        let op = self.op(site);
        let first = self.cta_mut().warpgroups[number].at.take();
        if let Some((other, at, first)) = &first {
            let is_apart = *other == op && matches!(op, Op::SetmaxnregDec | Op::SetmaxnregInc);
            let is_same = (*other, *at) == (op, site)
                || is_apart && **first == *operands && self.allows(Allowed::SetmaxnregApart, site);
            if !is_same {
                let other = format!("another warp of warpgroup {number} is at {}", self.sites.get(*at).info);
                return Err(self.fail(site, Kind::Divergence { this: format!("is at {op}"), other }));
            }
            if **first != *operands {
                let reason = format!("operands {operands:x?}, while another warp has {first:x?}");
                return Err(self.operand(site, reason));
            }
        }
        let warpgroup = &mut self.cta_mut().warpgroups[number];
        warpgroup.arrived += 1;
        if warpgroup.arrived < WARPS {
            warpgroup.at = Some((op, site, SmallVec::from_slice(operands)));
            return Ok(None);
        }
        warpgroup.arrived = 0;
        Ok(Some(number))
    }

    /// Lets the lanes of a warpgroup go on that were gathered.
    pub(crate) fn resume_warpgroup(&mut self, slot: usize, warpgroup: usize) {
        for warp in WARPS * warpgroup..WARPS * (warpgroup + 1) {
            self.resume(slot, warp);
        }
    }
}

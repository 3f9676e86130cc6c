//! Instructions that lanes execute together, and barriers of some warps of a CTA.

use std::fmt::Display;

use smallvec::SmallVec;

use crate::{
    Kind,
    clock::{LaneClock, WARP},
    exec::lanes,
    run::{LaneRef, Outcome, Run, Stop},
    site::Op,
};

/// A barrier of `bar.sync id, threads`.
#[derive(Default)]
pub(crate) struct Named {
    /// How many lanes it is for, by the first warp that has come.
    threads: u32,
    warps: SmallVec<[usize; 8]>,
}

impl Run {
    /// The current lane comes to a collective instruction. True when all that take part have come; they are then
    /// ready again. What they exchange is the caller's.
    pub(crate) fn arrive(&mut self, op: Op, site: u32) -> Outcome<bool> {
        let complete = self.gather(op, site)?;
        let LaneRef { slot, lane } = self.current;
        if op == Op::BarSync {
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

    /// The current lane comes to an instruction of its warp and waits there. True when all lanes of the warp have
    /// come; [`resume`](Self::resume) then lets them go on.
    pub(crate) fn gather(&mut self, op: Op, site: u32) -> Outcome<bool> {
        let LaneRef { slot, lane } = self.current;
        let cta = self.slots[slot].as_mut().expect("the current lane's CTA is resident");
        let warp_number = lane / WARP as usize;
        let warp = &mut cta.warps[warp_number];
        let exited = if op == Op::BarSync { cta.exited } else { warp.exited };
        // bar.warp.sync alone need not be the same instruction for all (PTX ISA 9.7.13.2, from compute capability 7.0 on): a
        // compiler may copy it to both sides of a branch.
        let is_same = |at: (Op, u32)| at == (op, site) || op == Op::BarWarpSync && at.0 == op;
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

    /// Before it comes there: checks that it has the operands that other lanes of its warp have there.
    pub(crate) fn agree(&mut self, op: Op, site: u32, operands: &[u64]) -> Outcome<()> {
        let lane = self.current.lane;
        let warp = &mut self.cta_mut().warps[lane / WARP as usize];
        if warp.at.is_some_and(|at| at != (op, site)) {
            // Not there at all, as is found when it comes.
            return Ok(());
        }
        let first = warp.operands.get_or_insert_with(|| SmallVec::from_slice(operands));
        if **first != *operands {
            let reason = format!("operands {operands:x?}, while other lanes of the warp have {first:x?}");
            return Err(self.operand(op, site, reason));
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

    /// A fault of an operand.
    #[cold]
    pub(crate) fn operand(&mut self, op: Op, site: u32, reason: impl Display) -> Stop {
        self.fail(site, Kind::Operand { op, reason: reason.to_string() })
    }

    /// The current lane comes to `bar.sync id, threads`.
    pub(crate) fn bar_sync_named(&mut self, site: u32, id: u32, threads: u32) -> Outcome<()> {
        let op = Op::BarSyncNamed;
        let block = self.cta().lanes.len() as u32;
        if !(1..16).contains(&id) {
            return Err(self.operand(op, site, format!("barrier {id}, not one of 1 to 15")));
        }
        if threads == 0 || !threads.is_multiple_of(WARP) || threads > block {
            let reason = format!("{threads} threads: not a multiple of {WARP} up to the {block} of the CTA");
            return Err(self.operand(op, site, reason));
        }
        self.agree(op, site, &[u64::from(id), u64::from(threads)])?;
        if !self.gather(op, site)? {
            return Ok(());
        }
        let LaneRef { slot, lane } = self.current;
        let cta = self.cta_mut();
        let named = &mut cta.named[id as usize];
        if named.warps.is_empty() {
            named.threads = threads;
        } else if named.threads != threads {
            let reason =
                format!("barrier {id} for {threads} threads, while others are at it for {}", named.threads);
            return Err(self.operand(op, site, reason));
        }
        named.warps.push(lane / WARP as usize);
        if (named.warps.len() as u32) * WARP < threads {
            return Ok(());
        }
        let warps = std::mem::take(&mut named.warps);
        LaneClock::barrier(&mut cta.clocks, warps.iter().map(|&warp| lanes(warp)));
        for warp in warps {
            self.cta_mut().warps[warp].snapshot = None;
            self.resume(slot, warp);
        }
        self.stats.barriers += 1;
        Ok(())
    }
}

//! The barriers of a CTA and of a warp, and those of some warps of a CTA.

use crate::{
    clock::{LaneClock, WARP, lanes},
    run::{Outcome, Run},
    site::Op,
    state::lane::LaneRef,
};

impl Run {
    /// The current lane comes to bar.sync.
    pub(crate) fn bar_sync(&mut self, site: u32) -> Outcome<()> {
        if self.arrive(Op::BarSync, site)? {
            let cta = self.cta_mut();
            let lanes = cta.clocks.len();
            LaneClock::barrier(&mut cta.clocks, std::iter::once(0..lanes));
            for warp in &mut cta.warps {
                warp.snapshot = None;
            }
            self.stats.barriers += 1;
        }
        Ok(())
    }

    /// The current lane comes to bar.warp.sync.
    pub(crate) fn bar_warp_sync(&mut self, site: u32) -> Outcome<()> {
        if self.arrive(Op::BarWarpSync, site)? {
            let warp = self.current.lane / WARP as usize;
            let cta = self.cta_mut();
            LaneClock::barrier(&mut cta.clocks, std::iter::once(lanes(warp)));
            cta.warps[warp].snapshot = None;
            self.stats.barriers += 1;
        }
        Ok(())
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

//! The barriers of a CTA and of a warp, and those of some warps of a CTA.

use std::rc::Rc;

use crate::{
    clock::{LaneClock, WARP, lanes},
    run::{Outcome, Run},
    state::{barrier::Named, lane::LaneRef},
};

impl Run {
    /// The current lane comes to bar.sync.
    pub(crate) fn bar_sync(&mut self, site: u32) -> Outcome<()> {
        if self.arrive(site)? {
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
    pub(crate) fn bar_warp_sync(&mut self, site: u32, mask: u32) -> Outcome<()> {
        if self.arrive_masked(site, mask)? {
            let warp = self.current.lane / WARP as usize;
            let cta = self.cta_mut();
            let taking = lanes(warp).filter(|lane| mask >> (lane % WARP as usize) & 1 == 1);
            LaneClock::barrier(&mut cta.clocks, taking.map(|lane| lane..lane + 1));
            cta.warps[warp].snapshot = None;
            self.stats.barriers += 1;
        }
        Ok(())
    }

    /// The current lane comes to `bar.sync id, threads`, or to `bar.arrive`, where it does not wait. Without
    /// a number of threads all of the CTA take part.
    pub(crate) fn bar_named(&mut self, site: u32, id: u32, threads: u32, waits: bool) -> Outcome<()> {
        let block = self.cta().lanes.len() as u32;
        let threads = if threads == 0 && waits { block } else { threads };
        if id >= 16 {
            return Err(self.operand(site, format!("barrier {id}, not one of 0 to 15")));
        }
        if threads == 0 || !threads.is_multiple_of(WARP) || threads > block {
            let reason = format!("{threads} threads: not a multiple of {WARP} up to the {block} of the CTA");
            return Err(self.operand(site, reason));
        }
        self.agree(site, &[u64::from(id), u64::from(threads)])?;
        if !self.gather(site)? {
            return Ok(());
        }
        let LaneRef { slot, lane } = self.current;
        let warp = lane / WARP as usize;
        let cta = self.cta_mut();
        let named = &mut cta.named[id as usize];
        if named.arrived == 0 {
            named.threads = threads;
        } else if named.threads != threads {
            let reason =
                format!("barrier {id} for {threads} threads, while others are at it for {}", named.threads);
            return Err(self.operand(site, reason));
        }
        named.arrived += WARP;
        if waits {
            named.warps.push(warp);
        } else {
            let published = LaneClock::release_together(&mut cta.clocks, std::iter::once(lanes(warp)));
            match (&mut named.published, published) {
                (Some(known), Some(more)) => known.join(&more),
                (known, more) => *known = more,
            }
            cta.warps[warp].snapshot = None;
            self.resume(slot, warp);
        }
        self.named_progress(id);
        Ok(())
    }

    /// Lets those that wait at a barrier go on when all have come.
    fn named_progress(&mut self, id: u32) {
        let slot = self.current.slot;
        let Self { slots, joins, .. } = self;
        let cta = slots[slot].as_mut().expect("the current lane's CTA is resident");
        let named = &mut cta.named[id as usize];
        if named.arrived < named.threads {
            return;
        }
        let Named { warps, published, .. } = std::mem::take(named);
        LaneClock::barrier(&mut cta.clocks, warps.iter().map(|&warp| lanes(warp)));
        if let Some(published) = published.map(Rc::new) {
            for clock in warps.iter().flat_map(|&warp| lanes(warp)) {
                cta.clocks[clock].acquire(&published, joins);
            }
        }
        for warp in warps {
            self.cta_mut().warps[warp].snapshot = None;
            self.resume(slot, warp);
        }
        self.stats.barriers += 1;
    }
}

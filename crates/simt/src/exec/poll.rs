//! Reads that a loop may repeat until something changes: acquires, and waits for an mbarrier.

use rand::RngExt;

use crate::{
    run::{Outcome, Run, Stop},
    schedule::Asynchrony,
    site::Op,
};

/// Polls in a row, of all lanes together, without anything else happening, after which nothing will.
const IDLE_POLLS: u64 = 200_000;

impl Run {
    /// Before an acquire: other lanes go first, and if it is the loop's last acquire once more, something must change.
    pub(crate) fn before_poll(&mut self, site: u32, address: u64) -> Outcome<()> {
        let current = self.current;
        self.count_poll()?;
        let version = self.version;
        let lane = self.lane_mut();
        let again = lane.poll == Some((site, address, version));
        if again {
            self.parked.push(current);
        } else {
            self.ready.push(current);
        }
        Ok(())
    }

    /// A read that a loop may repeat. So many in a row that nothing else happens are a deadlock; before that data
    /// that is under way arrives.
    pub(crate) fn count_poll(&mut self) -> Outcome<()> {
        self.idle_polls += 1;
        if self.idle_polls.is_multiple_of(IDLE_POLLS / 256) && self.perform_one() {
            self.idle_polls = 0;
        }
        if self.idle_polls > IDLE_POLLS {
            self.ready.push(self.current);
            self.failure = Some(self.deadlock());
            return Err(Stop);
        }
        Ok(())
    }

    /// Whether the phase of `parity` is complete; now and then, under a random schedule, not even if it is: so that no loop
    /// around a wait is there in vain. Nothing when the lane was set aside to wait for that, which it is only the `first`
    /// time; it is then suspended by the caller.
    pub(crate) fn mbarrier_try_wait(
        &mut self,
        site: u32,
        bar: u32,
        parity: u32,
        relaxed: bool,
        first: bool,
    ) -> Outcome<Option<bool>> {
        let op = Op::MbarrierTryWaitParity;
        if parity > 1 {
            return Err(self.operand(op, site, format!("parity {parity}, which is 0 or 1")));
        }
        let number = self.own_mbarrier(op, site, bar)?;
        let current = self.current;
        let cta = self.slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let lane = &mut cta.lanes[current.lane];
        lane.waiting = None;
        lane.waits_for = None;
        let mbarrier = &mut cta.mbarriers[number];
        let is_random = self.schedule.asynchrony == Asynchrony::Random;
        if first && is_random && self.rng.random_ratio(1, 16) {
            return Ok(Some(false));
        }
        if mbarrier.phase & 1 != parity {
            if !relaxed {
                cta.clocks[current.lane].acquire(&mbarrier.done, &mut self.joins);
            }
            self.stats.mbarrier_waits += 1;
            return Ok(Some(true));
        }
        if !first {
            return Ok(Some(false));
        }
        lane.waiting = Some(site);
        lane.waits_for = Some((number, parity));
        self.count_poll()?;
        if is_random && self.rng.random_ratio(1, 8) {
            let lane = self.lane_mut();
            lane.waiting = None;
            lane.waits_for = None;
            return Ok(Some(false));
        }
        // Data may have arrived while polls were counted.
        let mbarrier = &mut self.cta_mut().mbarriers[number];
        if mbarrier.phase & 1 == parity {
            mbarrier.waiters.push(current);
        } else {
            self.ready.push(current);
        }
        Ok(None)
    }
}

//! Reads that a loop may repeat until something changes: acquires, and waits for an mbarrier.

use rand::RngExt;

use crate::{
    fault::Allowed,
    run::{Outcome, Run, Stop},
    schedule::Asynchrony,
    state::mbarrier::{Scope, of_state},
};

/// Which phase of an mbarrier a wait is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Phase {
    Parity(u32),
    /// That of the state which an arrival gave.
    State(u64),
}

/// A wait, and of whose arrivals it is ordered after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wait {
    pub(crate) phase: Phase,
    pub(crate) scope: Scope,
}

/// Polls in a row, of all lanes together, without anything else happening, after which nothing will.
const IDLE_POLLS: u64 = 200_000;

impl Run {
    /// Before an acquire: other lanes go first, and if it is the loop's last acquire once more, something
    /// must change.
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

    /// A read that a loop may repeat. So many in a row that nothing else happens are a deadlock; before that
    /// data that is under way arrives.
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

    /// `mbarrier.test_wait`: whether a phase is complete, at once.
    pub(crate) fn mbarrier_test_wait(
        &mut self,
        site: u32,
        bar: u32,
        Wait { phase, scope }: Wait,
        relaxed: bool,
    ) -> Outcome<bool> {
        let (number, parity) = self.waited(site, bar, phase)?;
        let Some(parity) = parity else { return Ok(self.pass_mbarrier(number, scope, relaxed)) };
        if self.cta().mbarriers[number].phase & 1 != parity {
            return Ok(self.pass_mbarrier(number, scope, relaxed));
        }
        self.count_poll()?;
        Ok(false)
    }

    /// The lane is ordered after the phases that are complete.
    fn pass_mbarrier(&mut self, number: usize, scope: Scope, relaxed: bool) -> bool {
        let lane = self.current.lane;
        let Self { slots, current, joins, .. } = self;
        let cta = slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        if !relaxed {
            let mbarrier = &cta.mbarriers[number];
            cta.clocks[lane].acquire(&mbarrier.done, joins);
            if let (Scope::Cluster, Some(done)) = (scope, &mbarrier.done_of_cluster) {
                cta.clocks[lane].acquire(done, joins);
            }
        }
        self.stats.mbarrier_waits += 1;
        true
    }

    /// The mbarrier of a wait, and the parity that it waits for; none if the phase of a state is complete.
    fn waited(&mut self, site: u32, bar: u32, phase: Phase) -> Outcome<(usize, Option<u32>)> {
        let number = self.own_mbarrier(site, bar)?;
        let parity = match phase {
            Phase::Parity(parity) if parity > 1 && self.allows(Allowed::WideParity, site) => Some(parity & 1),
            Phase::Parity(parity) if parity > 1 => {
                return Err(self.operand(site, format!("parity {parity}, which is 0 or 1")));
            }
            Phase::Parity(parity) => Some(parity),
            Phase::State(state) => {
                let mbarrier = &self.cta().mbarriers[number];
                match of_state(state) {
                    Some((epoch, _)) if epoch == mbarrier.epoch => Some(mbarrier.phase & 1),
                    // PTX ISA, "mbarrier.test_wait, mbarrier.try_wait": the current phase, or the one before.
                    Some((epoch, _)) if epoch + 1 == mbarrier.epoch => None,
                    _ => {
                        let reason =
                            format!("the state {state:#x} is of no current phase, nor of the one before");
                        return Err(self.operand(site, reason));
                    }
                }
            }
        };
        Ok((number, parity))
    }

    /// Whether the phase of `parity` is complete; now and then, under a random schedule, not even if it is:
    /// so that no loop around a wait is there in vain. Nothing when the lane was set aside to wait for that,
    /// which it is only the `first` time; it is then suspended by the caller.
    pub(crate) fn mbarrier_try_wait(
        &mut self,
        site: u32,
        bar: u32,
        Wait { phase, scope }: Wait,
        relaxed: bool,
        first: bool,
    ) -> Outcome<Option<bool>> {
        let (number, parity) = self.waited(site, bar, phase)?;
        let current = self.current;
        let cta = self.slots[current.slot].as_mut().expect("the current lane's CTA is resident");
        let lane = &mut cta.lanes[current.lane];
        lane.waiting = None;
        lane.waits_for = None;
        let mbarrier = &cta.mbarriers[number];
        let is_random = self.schedule.asynchrony == Asynchrony::Random;
        if first && is_random && self.rng.random_ratio(1, 16) {
            return Ok(Some(false));
        }
        let Some(parity) = parity.filter(|&parity| mbarrier.phase & 1 == parity) else {
            return Ok(Some(self.pass_mbarrier(number, scope, relaxed)));
        };
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

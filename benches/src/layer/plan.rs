//! How many rounds of each size there is time for.
//!
//! The least first: [`MIN_ROUNDS`] of every size, and as many as Criterion takes samples where these cost next to nothing. Where that does
//! not fit, the largest sizes are dropped; where time is left over, every size gets the same slice of it, in rounds, up to
//! [`MAX_ROUNDS`]. Both are decided anew as rounds go by, from the speed seen so far.

use std::time::{Duration, Instant};

use super::rounds::Pace;
use super::size::Size;

/// The fewest rounds of a size: with 6 the interval of a median is from the second smallest to the second largest of them.
pub const MIN_ROUNDS: usize = 6;
/// The most: beyond it an interval hardly narrows.
pub const MAX_ROUNDS: usize = 40;
/// Part of the whole time that is next to nothing.
const SMALL: f64 = 0.02;
/// Of the time that is left, how much is spread. The rest is for estimates that were too low.
const SPREAD: f64 = 0.9;
/// How much of what was seen before an observation still counts after it.
const MEMORY: f64 = 0.9;
/// Seconds of Criterion's analysis and plots of an id, before any was seen.
const ANALYSIS: f64 = 0.25;

/// One size that is to be measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Job {
    /// The size.
    pub size: Size,
    /// Operations of one round, all calls together.
    pub flops: f64,
    /// Ids that Criterion analyses.
    pub ids: usize,
}

/// The time for all sizes, and what remains to be done in it.
#[derive(Clone, Debug)]
pub struct Plan {
    started: Instant,
    total: Duration,
    /// Criterion is handed no size with fewer rounds.
    samples: usize,
    jobs: Vec<Job>,
    /// Jobs behind us.
    done: usize,
    /// Rounds of the current job, and the seconds that they took.
    rounds: usize,
    spent: f64,
    /// Operations that took so many seconds.
    seen: (f64, f64),
    /// Ids that were analysed in so many seconds.
    analysed: (f64, f64),
    /// Seconds for what is neither round nor analysis.
    reserved: f64,
}

impl Plan {
    /// A plan for time that runs since `started`, for jobs in the order in which they will be done.
    #[must_use]
    pub fn new((total, started): (Duration, Instant), samples: usize, jobs: Vec<Job>) -> Plan {
        Plan {
            started,
            total,
            samples,
            jobs,
            done: 0,
            rounds: 0,
            spent: 0.0,
            seen: (0.0, 0.0),
            analysed: (1.0, ANALYSIS),
            reserved: 0.0,
        }
    }

    /// The whole time.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The number of the current job, counted from 1, and how many there are.
    #[must_use]
    pub fn position(&self) -> (usize, usize) {
        (self.done + 1, self.jobs.len())
    }

    /// How long the remaining jobs will take; None before the first round.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        self.knows().then(|| {
            let left = self.left();
            let (slice, dropped) = (self.slice(left), self.dropped(left));
            let kept = self.remaining().iter().filter(|job| !dropped.contains(&job.size));
            Duration::from_secs_f64(kept.map(|job| self.cost(job, slice)).sum::<f64>() + self.reserved)
        })
    }

    /// Seconds for what else is still to be done, other than rounds and analysis.
    pub fn reserve(&mut self, seconds: f64) {
        self.reserved = seconds;
    }

    /// Whether there is no time for the current job; then the seconds that it would take at least.
    #[must_use]
    pub fn drops(&self) -> Option<f64> {
        self.drops_with(self.left())
    }

    /// The current job is done; Criterion took `analysis` for so many of its ids.
    pub fn finish(&mut self, ids: usize, analysis: Duration) {
        let (seen, seconds) = self.analysed;
        if ids > 0 {
            self.analysed = (MEMORY * seen + ids as f64, MEMORY * seconds + analysis.as_secs_f64());
        }
        self.skip();
    }

    /// The current job is not done.
    pub fn skip(&mut self) {
        (self.done, self.rounds, self.spent) = (self.done + 1, 0, 0.0);
    }

    fn left(&self) -> f64 {
        self.total.saturating_sub(self.started.elapsed()).as_secs_f64()
    }

    fn knows(&self) -> bool {
        self.seen.1 > 0.0
    }

    fn remaining(&self) -> &[Job] {
        &self.jobs[self.done.min(self.jobs.len())..]
    }

    /// Seconds of one round.
    fn round(&self, job: &Job) -> f64 {
        let current = self.jobs.get(self.done).is_some_and(|current| current.size == job.size);
        if current && self.rounds > 0 {
            return self.spent / self.rounds as f64;
        }
        let (flops, busy) = self.seen;
        job.flops * busy / flops
    }

    /// Rounds of a job with that slice of time.
    fn rounds(&self, job: &Job, slice: f64) -> usize {
        let of = |seconds: f64| (seconds / self.round(job)) as usize;
        let least = of(SMALL * self.total.as_secs_f64()).min(self.samples).max(MIN_ROUNDS);
        of(slice).clamp(least.min(MAX_ROUNDS), MAX_ROUNDS)
    }

    /// Seconds that are still to be spent on a job with that slice.
    fn cost(&self, job: &Job, slice: f64) -> f64 {
        let rounds = self.rounds(job, slice);
        let (ids, seconds) = self.analysed;
        let analysed = if rounds >= self.samples { job.ids } else { 0 };
        let current = self.jobs.get(self.done).is_some_and(|current| current.size == job.size);
        let missing = if current { rounds.saturating_sub(self.rounds) } else { rounds };
        missing as f64 * self.round(job) + analysed as f64 * seconds / ids
    }

    fn needed(&self) -> f64 {
        self.remaining().iter().map(|job| self.cost(job, 0.0)).sum::<f64>() + self.reserved
    }

    fn dropped(&self, left: f64) -> Vec<Size> {
        let mut by_size: Vec<&Job> = self.remaining().iter().collect();
        by_size.sort_by_key(|job| (job.size.m(), job.size.seq_len));
        let mut needed = self.needed();
        let mut dropped = Vec::new();
        while needed > left
            && let Some(largest) = by_size.pop()
        {
            needed -= self.cost(largest, 0.0);
            dropped.push(largest.size);
        }
        dropped
    }

    fn drops_with(&self, left: f64) -> Option<f64> {
        let current = self.remaining().first().filter(|_| self.knows())?;
        self.dropped(left).contains(&current.size).then(|| self.cost(current, 0.0))
    }

    fn goes_on_with(&self, left: f64) -> bool {
        let Some(current) = self.remaining().first() else { return false };
        !self.knows() || self.rounds < self.rounds(current, self.slice(left))
    }

    /// The largest slice with which all that is kept fits, by bisection: the cost rises with it.
    fn slice(&self, left: f64) -> f64 {
        let dropped = self.dropped(left);
        let kept: Vec<&Job> = self.remaining().iter().filter(|job| !dropped.contains(&job.size)).collect();
        let cost = |slice: f64| kept.iter().map(|job| self.cost(job, slice)).sum::<f64>() + self.reserved;
        let longest = kept.iter().map(|job| self.round(job)).fold(0.0, f64::max) * (MAX_ROUNDS + 1) as f64;
        let (mut fits, mut too_long) = (0.0, longest);
        for _ in 0..40 {
            let middle = f64::midpoint(fits, too_long);
            if cost(middle) <= left * SPREAD { fits = middle } else { too_long = middle }
        }
        fits
    }
}

impl Pace for Plan {
    fn goes_on(&self) -> bool {
        self.goes_on_with(self.left())
    }

    fn ran(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        self.rounds += 1;
        self.spent += seconds;
        let (flops, busy) = self.seen;
        self.seen = (MEMORY * flops + self.jobs[self.done].flops, MEMORY * busy + seconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLES: usize = 10;
    const TOTAL: Duration = Duration::from_secs(300);

    /// Jobs of 128 · batch operations; a token takes `per_token` seconds, which a first job of batch 1 has shown.
    fn plan(batches: &[usize], per_token: f64, ids: usize) -> Plan {
        let job = |batch: usize| Job { size: Size { seq_len: 128, batch }, flops: 128.0 * batch as f64, ids };
        let mut jobs = vec![job(1)];
        jobs.extend(batches.iter().copied().map(job));
        let mut plan = Plan::new((TOTAL, Instant::now()), SAMPLES, jobs);
        assert_eq!((plan.drops(), plan.time_left()), (None, None), "nothing is known");
        for _ in 0..MIN_ROUNDS {
            assert!(plan.goes_on());
            plan.ran(Duration::from_secs_f64(128.0 * per_token));
        }
        plan.finish(0, Duration::ZERO);
        plan
    }

    /// Rounds that the current job gets, if all of them take as long as is thought.
    fn rounds(plan: &Plan, mut left: f64) -> usize {
        let mut plan = plan.clone();
        let time = plan.round(&plan.jobs[plan.done]);
        while plan.goes_on_with(left) {
            plan.ran(Duration::from_secs_f64(time));
            left -= time;
        }
        plan.rounds
    }

    #[test]
    fn every_size_gets_its_least_and_small_ones_more() {
        // Rounds of 1, 4 and 32 s: six of each are 222 s.
        let of = |left: f64| {
            let mut plan = plan(&[1, 4, 32], 1.0 / 128.0, 0);
            let small = rounds(&plan, left);
            plan.skip();
            (small, rounds(&plan, left - small as f64))
        };
        assert_eq!(of(222.0 / SPREAD), (6, 6));
        let (small, middle) = of(340.0);
        // Behind 40 rounds of the smallest, 300 s are left, of which nine tenths are spread: beside six of the largest, 78 s, 19 rounds.
        // What is left of the reserve as they go by makes some more.
        assert!(small == MAX_ROUNDS && (19..=22).contains(&middle), "{small} {middle}");
        assert_eq!(of(10_000.0), (MAX_ROUNDS, MAX_ROUNDS));
    }

    #[test]
    fn the_largest_sizes_are_dropped_until_the_rest_fits() {
        let mut plan = plan(&[1, 32, 4, 16], 1.0 / 128.0, 0);
        let names = |left: f64| plan.dropped(left).iter().map(|size| size.batch).collect::<Vec<_>>();
        assert_eq!(names(6.0 * 53.0 + 0.1), [] as [usize; 0]);
        assert_eq!(names(300.0), [32]);
        assert_eq!(names(100.0), [32, 16]);
        assert_eq!(names(1.0), [32, 16, 4, 1]);
        assert_eq!(plan.drops_with(100.0), None, "the smallest is next, and fits");
        plan.skip();
        assert!((plan.drops_with(100.0).unwrap() - 6.0 * 32.0).abs() < 1e-9);
        plan.reserve(40.0);
        assert!(plan.drops_with(6.0 * 52.0 + 39.0).is_some() && plan.drops_with(6.0 * 52.0 + 41.0).is_none());
    }

    #[test]
    fn a_size_that_costs_next_to_nothing_gets_all_its_samples() {
        // A 50th of 300 s is 6 s: ten rounds of 0.5 s fit in it, ten of 1 s do not.
        let of = |per_token: f64| rounds(&plan(&[1, 32], per_token, 0), 0.0);
        assert_eq!([of(0.5 / 128.0), of(0.75 / 128.0), of(1.0 / 128.0)], [10, 8, 6]);
    }

    /// Criterion analyses sizes with as many rounds as it takes samples; that takes time, too.
    #[test]
    fn analysis_is_counted_where_there_is_one() {
        let mut plan = plan(&[1, 2], 1.0 / 128.0, 14);
        assert_eq!(plan.needed(), 18.0);
        let job = plan.jobs[1];
        assert!((plan.cost(&job, 10.5) - (10.0 + 14.0 * ANALYSIS)).abs() < 1e-9);
        plan.finish(14, Duration::from_secs(14));
        let seconds = plan.cost(&plan.jobs[2], 21.0) - 20.0;
        assert!((12.0..14.0).contains(&seconds), "an id took a second: {seconds}");
    }

    #[test]
    fn a_machine_that_slows_down_gets_fewer_rounds() {
        let mut plan = plan(&[1, 2], 1.0 / 128.0, 0);
        assert!(rounds(&plan, 100.0) > 30);
        for _ in 0..MIN_ROUNDS {
            plan.ran(Duration::from_secs(10));
        }
        // The next is dropped, and leaves its time to this one.
        assert!(plan.goes_on_with(40.0) && !plan.goes_on_with(9.0), "a round takes 10 s");
        plan.finish(0, Duration::ZERO);
        assert!(plan.drops_with(10.0).is_some());
        assert_eq!(plan.position(), (3, 3));
    }
}

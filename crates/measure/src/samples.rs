//! What was seen of a size so far: every call, which of them other processes disturbed, and what the rest
//! say.
//!
//! **Disturbed.** While all threads work, wall time times threads is the process's CPU time. Where another
//! process takes a core, it is more. How much more is normal depends on the method (threads wait for each
//! other) and is what its calls show at best, held against what a loop on all threads shows at best in the
//! same rounds: a machine that is busy all the time slows both down alike. A call is disturbed from 1.1 times
//! that on; and, whatever the CPU says, from 1.25 times its method's median on. The rule is the same for a
//! base and for what is compared with it: one that looks at the base alone would keep the rounds in which the
//! base was lucky.
//!
//! **The ratio** is that of wall times, over the observations in which neither the method nor its two base
//! calls were disturbed. Where most are, it is that of CPU times over all of them, and the record says so:
//! those scatter more than undisturbed wall times, but far less than disturbed ones.

use std::collections::BTreeMap;

use fused_lora_records::Clock;

use crate::method::{Method, Probe, Task};
use crate::stats::{Median, quantile};
use crate::time::Time;

/// A call is disturbed if it leaves threads idle so many times as much as it has to.
const IDLE: f64 = 1.1;
/// A call is disturbed if it takes so many times its method's median.
const SLOW: f64 = 1.25;
/// Of the calls of a method, the share that is taken to be undisturbed when it is asked how idle it is at
/// best.
const BEST: f64 = 0.1;

/// One call of a method between two of its base.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Number of the round.
    pub round: usize,
    /// The method's.
    pub own: Time,
    /// The base's, before and behind it.
    pub bases: [Time; 2],
}

impl Observation {
    /// The method's time over the mean of its two base calls; None without the clock.
    fn ratio(&self, clock: Clock) -> Option<f64> {
        let of = |time: &Time| if clock == Clock::Wall { Some(time.wall) } else { time.cpu };
        let [before, behind] = &self.bases;
        let ratio = of(&self.own)? / f64::midpoint(of(before)?, of(behind)?);
        Some(ratio).filter(|ratio| ratio.is_finite())
    }
}

/// What a method's calls say.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Of a forward pass, in nanoseconds of wall time.
    pub time: Median,
    /// To the base; None for a base or a probe.
    pub ratio: Option<Median>,
    /// Which clock `ratio` is of.
    pub clock: Clock,
    /// Calls that the medians are taken over.
    pub samples: usize,
    /// Calls that were disturbed, and left out.
    pub repeated: usize,
    /// The wall times, in nanoseconds, in their order: for Criterion.
    pub nanos: Vec<f64>,
}

/// All calls of one size.
#[derive(Clone, Debug)]
pub struct Samples {
    threads: f64,
    /// Rounds that were begun, those of some methods alone counted, too.
    rounds: usize,
    /// Place of the base that a method is compared with; None for a base or a probe, of which the calls alone
    /// count.
    bases: Vec<Option<usize>>,
    peak: Option<usize>,
    calls: Vec<Vec<Time>>,
    observations: Vec<Vec<Observation>>,
}

impl Samples {
    /// Nothing yet of these methods, which run on so many threads.
    pub fn new(methods: &[Method], threads: usize) -> Samples {
        let other = |(place, method): (usize, &Method)| method.base.filter(|&base| base != place);
        Samples {
            threads: threads as f64,
            rounds: 0,
            bases: methods.iter().enumerate().map(other).collect(),
            peak: methods.iter().position(|method| method.task == Task::Probe(Probe::Peak)),
            calls: vec![Vec::new(); methods.len()],
            observations: vec![Vec::new(); methods.len()],
        }
    }

    /// The number of a round that begins.
    pub fn next_round(&mut self) -> usize {
        self.rounds += 1;
        self.rounds
    }

    /// A call of a base or a probe.
    pub fn called(&mut self, place: usize, time: Time) {
        self.calls[place].push(time);
    }

    /// A call of a method that is compared with a base.
    pub fn observed(&mut self, place: usize, observation: Observation) {
        self.calls[place].push(observation.own);
        self.observations[place].push(observation);
    }

    /// Whether a method is compared with a base, and was called: some turn out not to be had here.
    pub fn is_compared(&self, place: usize) -> bool {
        self.bases[place].is_some() && !self.calls[place].is_empty()
    }

    /// Calls of a method that were not disturbed, as far as is known now; where it is compared with a base,
    /// nor was the base.
    pub fn good(&self, place: usize) -> usize {
        match self.bases[place] {
            Some(base) => self.good_observations(place, base).len(),
            None => self.good_calls(place).len(),
        }
    }

    /// All calls of a method.
    pub fn all(&self, place: usize) -> usize {
        self.calls[place].len()
    }

    /// What the calls of a method say; None before the first.
    pub fn measured(&self, place: usize) -> Option<Measured> {
        let (kept, ratio, clock): (Vec<Time>, _, _) = match self.bases[place] {
            Some(base) => {
                let (kept, clock) = self.kept(place, base);
                let ratios: Vec<f64> = kept.iter().filter_map(|seen| seen.ratio(clock)).collect();
                (kept.iter().map(|seen| seen.own).collect(), Median::of(&ratios), clock)
            }
            None => {
                let (good, all) = (self.good_calls(place), &self.calls[place]);
                (if has_enough(good.len(), all.len()) { good } else { all.clone() }, None, Clock::Wall)
            }
        };
        let nanos: Vec<f64> = kept.iter().map(|time| 1e9 * time.wall).collect();
        let (samples, repeated) = (nanos.len(), self.all(place) - nanos.len());
        Some(Measured { time: Median::of(&nanos)?, ratio, clock, samples, repeated, nanos })
    }

    /// How many times as long one method takes as another, by rounds in which both were compared with the
    /// same base; one of them may be that base.
    pub fn times_as_long(&self, place: usize, other: usize) -> Option<Median> {
        let by_round = |place: usize| -> Option<BTreeMap<usize, f64>> {
            let (kept, clock) = self.kept(place, self.bases[place]?);
            Some(kept.iter().filter_map(|seen| Some((seen.round, seen.ratio(clock)?))).collect())
        };
        let (own, others) = (by_round(place), by_round(other));
        // A base is as long as itself.
        let of = |ratios: &Option<BTreeMap<usize, f64>>, round| {
            ratios.as_ref().map_or(Some(1.0), |ratios| ratios.get(round).copied())
        };
        let rounds = own.as_ref().or(others.as_ref())?.keys();
        let ratios: Vec<f64> =
            rounds.filter_map(|round| Some(of(&own, round)? / of(&others, round)?)).collect();
        Median::of(&ratios)
    }

    /// The seconds that this share of a method's calls did not exceed; of 0, the fastest call.
    pub fn fastest(&self, place: usize, share: f64) -> Option<f64> {
        let seconds: Vec<f64> = self.calls[place].iter().map(|time| time.wall).collect();
        quantile(&seconds, share)
    }

    /// The observations that count, and by which clock.
    fn kept(&self, place: usize, base: usize) -> (Vec<Observation>, Clock) {
        let (good, all) = (self.good_observations(place, base), &self.observations[place]);
        if has_enough(good.len(), all.len()) {
            return (good, Clock::Wall);
        }
        let has_cpu = all.iter().all(|seen| seen.ratio(Clock::Cpu).is_some());
        (all.clone(), if has_cpu { Clock::Cpu } else { Clock::Wall })
    }

    fn good_observations(&self, place: usize, base: usize) -> Vec<Observation> {
        let (own, of_base) = (self.undisturbed(place), self.undisturbed(base));
        let is_good = |seen: &&Observation| own(&seen.own) && seen.bases.iter().all(&of_base);
        self.observations[place].iter().filter(is_good).copied().collect()
    }

    fn good_calls(&self, place: usize) -> Vec<Time> {
        let undisturbed = self.undisturbed(place);
        self.calls[place].iter().filter(|time| undisturbed(time)).copied().collect()
    }

    /// Tells which calls of a method were not disturbed.
    fn undisturbed(&self, place: usize) -> impl Fn(&Time) -> bool {
        let best = |place: usize| {
            let idle: Vec<f64> = self.calls[place].iter().filter_map(|time| self.idle(time)).collect();
            quantile(&idle, BEST)
        };
        // The loop of the peak keeps all threads busy: where even its best call does not, the machine is
        // taken.
        let of_machine = self.peak.and_then(best).unwrap_or(1.0).max(1.0);
        let most_idle = IDLE * best(place).unwrap_or(f64::INFINITY) / of_machine;
        let walls: Vec<f64> = self.calls[place].iter().map(|time| time.wall).collect();
        let slow = SLOW * quantile(&walls, 0.5).unwrap_or(f64::INFINITY);
        move |time| time.wall <= slow && self.idle(time).is_none_or(|idle| idle <= most_idle)
    }

    /// Wall time of all threads to the CPU time: 1 where all of them worked all the time.
    fn idle(&self, time: &Time) -> Option<f64> {
        time.cpu.filter(|&cpu| cpu > 0.0).map(|cpu| time.wall * self.threads / cpu)
    }
}

/// Whether so many undisturbed ones will do: most of what there is.
fn has_enough(good: usize, all: usize) -> bool {
    2 * good > all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::FEWEST;
    use crate::testing::{self, method, probe};

    const BASE: usize = 0;
    const FUSED: usize = 1;
    const PEAK: usize = 2;

    fn seen() -> Samples {
        let methods = [method("base", 0, Some(BASE)), method("fused", 10, Some(BASE)), probe(Probe::Peak)];
        Samples::new(&methods, 2)
    }

    /// Seconds of wall time; two threads work for all but the share `taken` of it.
    fn time(wall: f64, taken: f64) -> Time {
        Time { wall, cpu: Some(2.0 * wall * (1.0 - taken)) }
    }

    /// The method between two calls of the base, and a call of the peak.
    fn leg(seen: &mut Samples, round: usize, own: Time, bases: [Time; 2], peak: Time) {
        seen.called(PEAK, peak);
        testing::leg(seen, FUSED, round, own, bases);
    }

    /// So many legs of the same calls.
    fn legs(rounds: usize, own: Time, bases: [Time; 2], peak: Time) -> Samples {
        let mut seen = seen();
        (0..rounds).for_each(|round| leg(&mut seen, round, own, bases, peak));
        seen
    }

    #[test]
    fn a_ratio_is_to_the_mean_of_the_two_base_calls_of_its_own_leg() {
        let mut seen = seen();
        for round in 0..8 {
            // The machine gets slower by the round; the ratio is always 1.2.
            let slower = 1.0 + 0.02 * round as f64;
            let [before, behind] = [0.9, 1.1].map(|wall| time(slower * wall, 0.0));
            leg(&mut seen, round, time(slower * 1.2, 0.0), [before, behind], time(1.0, 0.0));
        }
        let measured = seen.measured(FUSED).unwrap();
        assert!((measured.ratio.unwrap().median - 1.2).abs() < 1e-12);
        assert_eq!((measured.samples, measured.repeated, measured.clock), (8, 0, Clock::Wall));
        assert!((measured.time.median - 1.2e9 * 1.07).abs() < 1.0);
        let base = seen.measured(BASE).unwrap();
        assert_eq!((base.samples, base.ratio), (16, None));
        assert_eq!(seen.times_as_long(FUSED, BASE).unwrap().median, measured.ratio.unwrap().median);
    }

    #[test]
    fn a_disturbed_round_is_left_out_whoever_it_hit() {
        let quiet = |wall| time(wall, 0.02);
        for hit in 0..3 {
            let mut seen = legs(12, quiet(1.2), [quiet(1.0); 2], quiet(1.0));
            // A core is taken for half of a call: it lasts no longer than others may, but the CPU worked
            // less.
            let mut walls = [1.2, 1.0, 1.0].map(quiet);
            walls[hit] = time(1.2 * walls[hit].wall, 0.25);
            leg(&mut seen, 12, walls[0], [walls[1], walls[2]], quiet(1.0));
            let measured = seen.measured(FUSED).unwrap();
            assert_eq!((measured.samples, measured.repeated), (12, 1), "call {hit}");
            assert_eq!(seen.good(FUSED), 12);
            assert!((measured.ratio.unwrap().median - 1.2).abs() < 1e-12);
        }
    }

    /// Without a CPU time (a GPU), and where the CPU time does not show it (a host that takes the whole
    /// machine).
    #[test]
    fn a_call_that_is_far_above_its_median_is_left_out() {
        let mut seen = seen();
        let wall = |wall| Time { wall, cpu: None };
        for round in 0..10 {
            let slow = if round == 3 { 1.6 } else { 1.2 };
            leg(&mut seen, round, wall(slow), [wall(1.0); 2], wall(1.0));
        }
        let measured = seen.measured(FUSED).unwrap();
        assert_eq!((measured.samples, measured.repeated, measured.clock), (9, 1, Clock::Wall));
    }

    /// A method whose threads wait for each other is not disturbed by that.
    #[test]
    fn idle_threads_of_the_method_itself_are_no_disturbance() {
        let seen = legs(10, time(1.2, 0.4), [time(1.0, 0.0); 2], time(1.0, 0.0));
        let measured = seen.measured(FUSED).unwrap();
        assert_eq!((measured.samples, measured.repeated), (10, 0));
    }

    /// A quarter of the machine is taken all the time, and hits calls unevenly; the CPU times stay what they
    /// are.
    #[test]
    fn where_most_are_disturbed_the_cpu_times_are_compared() {
        let mut seen = seen();
        for round in 0..20 {
            let share = |place: usize| 0.2 + 0.02 * ((round * 7 + place * 3) % 8) as f64;
            let loaded = |work: f64, place: usize| {
                let wall = work / (1.0 - share(place));
                Time { wall, cpu: Some(2.0 * work) }
            };
            leg(&mut seen, round, loaded(1.2, 0), [loaded(1.0, 1), loaded(1.0, 2)], loaded(1.0, 3));
        }
        let measured = seen.measured(FUSED).unwrap();
        assert_eq!((measured.clock, measured.samples, measured.repeated), (Clock::Cpu, 20, 0));
        assert!((measured.ratio.unwrap().median - 1.2).abs() < 1e-12);
        assert!(seen.good(FUSED) < FEWEST);
    }

    /// A quarter of the machine is taken from every call alike: none stands out among its own, but the peak's
    /// loop tells.
    #[test]
    fn a_machine_that_is_evenly_busy_is_seen_by_the_peak() {
        let seen = legs(12, time(1.6, 0.25), [1.4, 1.3].map(|wall| time(wall, 0.25)), time(1.3, 0.25));
        assert_eq!(seen.good(FUSED), 0);
        assert_eq!(seen.measured(FUSED).unwrap().clock, Clock::Cpu);
    }

    #[test]
    fn few_values_have_no_interval() {
        for rounds in 0..=FEWEST {
            let measured = legs(rounds, time(1.2, 0.0), [time(1.0, 0.0); 2], time(1.0, 0.0)).measured(FUSED);
            assert_eq!(measured.is_some(), rounds > 0);
            let interval = measured.and_then(|measured| measured.ratio.unwrap().interval);
            assert_eq!(interval.is_some(), rounds == FEWEST, "{rounds} rounds");
        }
    }

    #[test]
    fn the_fastest_calls_are_the_limit() {
        let mut seen = seen();
        assert_eq!(seen.fastest(PEAK, 0.0), None);
        [3.0, 2.0, 2.5].into_iter().for_each(|wall| seen.called(PEAK, time(wall, 0.0)));
        assert_eq!(seen.fastest(PEAK, 0.0), Some(2.0));
        assert_eq!(seen.fastest(PEAK, 0.5), Some(2.5));
    }
}

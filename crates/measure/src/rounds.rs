//! The methods of one size, run in rounds.
//!
//! ```text
//! base  m₅  m₀  base  m₃  m₇  base  m₁  base  …
//! ```
//!
//! A *leg* is a base call, one or two methods, and a base call again, which opens the next leg. A method is
//! compared with the mean of the two base calls of its leg: none is more than two calls away, and a machine
//! that gets slower within a leg slows both sides down. Two calls that are eight places apart scatter 1.7 to
//! 2.4 times as much as neighbours; a base beside each method would take 17 calls where legs of two take 12.
//! The order of the methods is drawn anew in each round, so that none always follows the same other.

use std::time::Instant;

use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom as _;

use crate::check::{Wrong, check};
use crate::method::{Method, Provider, Ready, Suite};
use crate::samples::{Observation, Samples};
use crate::size::Size;
use crate::time::Time;

/// Methods between two base calls.
const BETWEEN: usize = 2;

/// Methods on their operands.
pub struct Runner {
    methods: Vec<Method>,
    calls: Vec<Ready>,
    slots: usize,
    /// The slot of the next call, whatever the method: so the same distance lies between two uses of a slot.
    next: usize,
    rng: Xoshiro256PlusPlus,
}

impl Runner {
    /// Those methods of a size, made ready and checked. Between two uses of operands `distance` bytes of
    /// others are touched.
    ///
    /// Another library's method that breaks the tolerance is shown to `inexact`, and stays; one of this
    /// library's fails.
    pub fn new(
        suite: &mut dyn Suite,
        size: Size,
        methods: &[Method],
        distance: usize,
        inexact: &mut dyn FnMut(&Method, &Wrong),
    ) -> anyhow::Result<Runner> {
        let slots = suite.slots(size, distance);
        let mut calls = suite.prepare(size, slots, methods).with_context(|| suite.label(size))?;
        for (method, call) in methods.iter().zip(&mut calls) {
            let Some(call) = call.as_mut().filter(|_| !method.is_probe()) else { continue };
            let expected = suite.expected(size, method)?;
            match check(method, &mut **call, &expected) {
                Ok(()) => (),
                Err(wrong @ Wrong::Mismatch { .. }) if !method.is_ours() => inexact(method, &wrong),
                Err(wrong) => return Err(anyhow::Error::new(wrong).context(suite.label(size))),
            }
        }
        let rng = Xoshiro256PlusPlus::seed_from_u64(size.m() as u64);
        Ok(Runner { methods: methods.to_vec(), calls, slots, next: 0, rng })
    }

    /// Whether the method at that place can be had here.
    pub fn has(&self, place: usize) -> bool {
        self.calls[place].is_some()
    }

    /// One call of the method at that place, on the next operands.
    pub fn call(&mut self, place: usize) -> anyhow::Result<Time> {
        let mut slot = 0;
        // A probe has operands of its own.
        if !self.methods[place].is_probe() {
            slot = self.next;
            self.next = (slot + 1) % self.slots;
        }
        self.calls[place].as_mut().context("a method that is left out is called")?.call(slot)
    }

    /// One round: each of the `wanted` methods once, between calls of their bases, and all probes. Returns
    /// the seconds that it took.
    pub fn round(&mut self, wanted: &[usize], samples: &mut Samples) -> anyhow::Result<f64> {
        let (started, round) = (Instant::now(), samples.next_round());
        for place in 0..self.methods.len() {
            if self.methods[place].is_probe() {
                samples.called(place, self.call(place)?);
            }
        }
        for base in 0..self.methods.len() {
            if !self.methods[base].is_base(base) || !self.has(base) {
                continue;
            }
            let of_base =
                |&&place: &&usize| place != base && self.methods[place].base == Some(base) && self.has(place);
            let mut compared: Vec<usize> = wanted.iter().filter(of_base).copied().collect();
            if compared.is_empty() && !wanted.contains(&base) {
                continue;
            }
            compared.shuffle(&mut self.rng);
            if self.methods[base].provider == Provider::Torch {
                // Not counted: the other process finds its threads asleep and its code out of the caches.
                self.call(base)?;
            }
            let mut before = self.call(base)?;
            samples.called(base, before);
            for leg in compared.chunks(BETWEEN) {
                let own: Vec<Time> = leg.iter().map(|&place| self.call(place)).collect::<Result<_, _>>()?;
                let behind = self.call(base)?;
                samples.called(base, behind);
                for (&place, own) in leg.iter().zip(own) {
                    samples.observed(place, Observation { round, own, bases: [before, behind] });
                }
                before = behind;
            }
        }
        Ok(started.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use half::f16;
    use ndarray::Array2;

    use super::*;
    use crate::method::Probe;
    use crate::testing::{MadeCall, MadeSuite, SIZE, method, probe};

    /// Places and slots of the calls.
    type Log = Rc<RefCell<Vec<(usize, usize)>>>;

    fn places(log: &Log) -> Vec<usize> {
        log.borrow().iter().map(|&(place, _)| place).collect()
    }

    /// The n-th call takes n seconds; y is 1, or 2 where it is wrong. Those that are missing cannot be had.
    fn runner(
        missing: &'static [usize],
        wrong: Option<usize>,
        distance: usize,
    ) -> (anyhow::Result<Runner>, Log, Vec<String>) {
        let mut peer = method("peer", 10, Some(0));
        peer.provider = Provider::Library(1);
        let methods = [
            method("base", 0, Some(0)),
            method("unfused", 10, Some(0)),
            method("fused", 10, Some(0)),
            peer,
            probe(Probe::Peak),
            method("other-base", 0, Some(5)),
            method("other", 10, Some(5)),
        ];
        let log = Log::default();
        let mut suite = MadeSuite(|_: Size, place: usize, _: &Method| {
            let log = Rc::clone(&log);
            let run = move |slot| {
                log.borrow_mut().push((place, slot));
                Ok(Time { wall: log.borrow().len() as f64, cpu: None })
            };
            let y = if wrong == Some(place) { 2.0 } else { 1.0 };
            let rows = usize::from(!missing.contains(&place));
            MadeCall { run: Box::new(run), y: Array2::from_elem((rows, 1), f16::from_f32(y)) }
        });
        let mut inexact = Vec::new();
        let runner = Runner::new(&mut suite, SIZE, &methods, distance, &mut |method, _| {
            inexact.push(method.names[0].clone());
        });
        (runner, log, inexact)
    }

    /// One that is right, and nothing seen yet.
    fn ready(missing: &'static [usize], distance: usize) -> (Runner, Log, Samples) {
        let (runner, log, _) = runner(missing, None, distance);
        let runner = runner.unwrap();
        let samples = Samples::new(&runner.methods, 2);
        (runner, log, samples)
    }

    #[test]
    fn a_round_calls_each_method_between_calls_of_its_own_base() {
        let (mut runner, log, mut samples) = ready(&[], 6);
        assert_eq!(log.take().len(), 6, "each but the probe was checked");
        runner.round(&[1, 2, 3, 6], &mut samples).unwrap();
        let places = places(&log);
        // The probe; base, two of three, base, the third, base; the other base, its method, the other base.
        assert_eq!((places[0], places[1], places[4], places[6]), (4, 0, 0, 0), "{places:?}");
        let mut compared = [&places[2..4], &places[5..6]].concat();
        compared.sort_unstable();
        assert_eq!((compared, &places[7..]), (vec![1, 2, 3], &[5, 6, 5][..]));
        // Slots follow each other whatever the method; the probe has none.
        let slots: Vec<usize> = log.borrow().iter().skip(1).map(|&(_, slot)| slot).collect();
        assert_eq!(slots, [0, 1, 2, 3, 4, 5, 6, 0, 1]);

        // The n-th call took n seconds. The check of the other base is the fifth call, say: what counts is
        // who stands beside whom.
        let at = |place: usize| places.iter().position(|&other| other == place).unwrap() + 1;
        for place in [1, 2, 3] {
            let nanos = samples.measured(place).unwrap();
            let bases = if at(place) < 5 { (2.0, 5.0) } else { (5.0, 7.0) };
            let ratio = at(place) as f64 / f64::midpoint(bases.0, bases.1);
            assert_eq!((nanos.time.median, nanos.ratio.unwrap().median), (at(place) as f64 * 1e9, ratio));
        }
        assert_eq!(samples.measured(6).unwrap().ratio.unwrap().median, 9.0 / f64::midpoint(8.0, 10.0));
        assert_eq!((samples.all(0), samples.all(4), samples.all(5)), (3, 1, 2));
    }

    /// Over many rounds each method stands first and last in a leg, beside each other one.
    #[test]
    fn no_method_always_follows_the_same_other() {
        let (mut runner, log, mut samples) = ready(&[], 1);
        let mut pairs = BTreeSet::new();
        for _ in 0..100 {
            log.take();
            runner.round(&[1, 2, 3], &mut samples).unwrap();
            pairs.insert(places(&log)[2..4].to_vec());
        }
        assert_eq!(pairs.len(), 3 * 2, "{pairs:?}");
    }

    #[test]
    fn a_round_of_few_methods_leaves_the_others_alone() {
        let (mut runner, log, mut samples) = ready(&[], 1);
        for (wanted, called) in [(2, &[4, 0, 2, 0][..]), (0, &[4, 0]), (5, &[4, 5])] {
            log.take();
            runner.round(&[wanted], &mut samples).unwrap();
            assert_eq!(places(&log), called);
        }
    }

    #[test]
    fn another_process_wakes_up_before_its_base_is_timed() {
        let (mut runner, log, mut samples) = ready(&[], 1);
        runner.methods[5].provider = Provider::Torch;
        log.take();
        runner.round(&[6], &mut samples).unwrap();
        assert_eq!((places(&log), samples.all(5)), (vec![4, 5, 5, 6, 5], 2));
    }

    #[test]
    fn what_is_not_there_is_left_out_and_what_is_compared_with_it() {
        let (mut runner, log, mut samples) = ready(&[2, 5], 1);
        assert_eq!(log.take().len(), 4, "it is not even checked");
        runner.round(&[1, 2, 6], &mut samples).unwrap();
        assert_eq!(places(&log), [4, 0, 1, 0]);
        assert!(samples.is_compared(1) && !samples.is_compared(2) && samples.measured(2).is_none());
    }

    #[test]
    fn what_is_wrong_is_not_timed_unless_it_is_a_peer() {
        for wrong in [0, 1, 2, 5, 6] {
            let error = runner(&[], Some(wrong), 0).0.err().expect("it is wrong");
            assert!(format!("{error:#}").contains("seq128/batch1: "), "{error:#}");
        }
        let (runner, _, inexact) = runner(&[], Some(3), 0);
        assert!(runner.is_ok());
        assert_eq!(inexact, ["peer"]);
    }
}

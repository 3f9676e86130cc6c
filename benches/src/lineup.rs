//! Methods that are timed against each other, round by round.

use std::time::{Duration, Instant};

use crate::method::Method;
use crate::ring::{Ring, alternating};
use crate::settings::Cache;
use crate::tokens::Tokens;

/// Methods and the buffers that they run on.
///
/// A round is one call of each. Since a ratio is taken within a round, whatever slows the machine down for
/// longer than a round slows both down; and since the order alternates, neither gains from being the second.
pub struct Lineup<'a> {
    methods: Vec<Box<dyn Method + 'a>>,
    ring: Ring,
    cache: Cache,
    /// By slot and projection.
    tokens: &'a mut [Vec<Tokens>],
    rounds: usize,
}

impl<'a> Lineup<'a> {
    /// A line-up of methods; those that compute nothing come last, and no slot is kept for them.
    ///
    /// # Panics
    ///
    /// If the ring is not for as many methods as compute, has more slots than there are tokens, or a method
    /// that computes follows one that does not.
    #[must_use]
    pub fn new(
        methods: Vec<Box<dyn Method + 'a>>,
        ring: Ring,
        cache: Cache,
        tokens: &'a mut [Vec<Tokens>],
    ) -> Lineup<'a> {
        let computing = methods.iter().filter(|method| method.computes().is_some()).count();
        assert_eq!(ring.methods(), computing, "a ring for other methods");
        assert!(tokens.len() >= ring.slots(), "{} slots of tokens for {ring:?}", tokens.len());
        assert!(
            methods.is_sorted_by_key(|method| method.computes().is_none()),
            "a method that computes comes late"
        );
        Lineup { methods, ring, cache, tokens, rounds: 0 }
    }

    /// One call of each method. The times are in the order of the methods, whatever the order of the calls.
    pub fn round(&mut self) -> Vec<Duration> {
        let mut times = vec![Duration::ZERO; self.methods.len()];
        let round = self.rounds;
        self.rounds += 1;
        for place in alternating(self.methods.len(), round) {
            let method = &mut self.methods[place];
            let slot = if method.computes().is_some() { self.ring.slot(place, round) } else { 0 };
            let weights = match self.cache {
                Cache::Cold => slot,
                Cache::WarmW => 0,
            };
            let tokens = &mut self.tokens[slot];
            let start = Instant::now();
            method.call(weights, tokens);
            times[place] = start.elapsed();
        }
        times
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use fused_lora::Strategy;
    use fused_lora_sweep::Workload;

    use super::*;
    use crate::normals::Normals;
    use crate::tokens;

    type Log = Rc<RefCell<Vec<(&'static str, usize)>>>;

    /// Logs its calls instead of computing.
    struct Stub {
        name: &'static str,
        computes: Option<Strategy>,
        time: Duration,
        log: Log,
    }

    impl Method for Stub {
        fn name(&self) -> &str {
            self.name
        }

        fn computes(&self) -> Option<Strategy> {
            self.computes
        }

        fn call(&mut self, slot: usize, _: &mut [Tokens]) {
            self.log.borrow_mut().push((self.name, slot));
            std::thread::sleep(self.time);
        }
    }

    fn log_of(cache: Cache, rounds: usize) -> Vec<(&'static str, usize)> {
        let log = Log::default();
        let stub = |name, computes| -> Box<dyn Method> {
            Box::new(Stub { name, computes, time: Duration::ZERO, log: Rc::clone(&log) })
        };
        let methods = vec![
            stub("base", Some(Strategy::Base)),
            stub("fused", Some(Strategy::Fused)),
            stub("peak", None),
        ];
        let mut normals = Normals::new(1);
        let mut tokens: Vec<_> = (0..4).map(|_| tokens::slot(&Workload::ALL[0], 1, &mut normals)).collect();
        let ring = Ring::cold(2, 1, 2);
        assert_eq!(ring.slots(), 4);
        let mut lineup = Lineup::new(methods, ring, cache, &mut tokens);
        for _ in 0..rounds {
            lineup.round();
        }
        log.take()
    }

    #[test]
    fn slots_rotate_and_the_order_alternates() {
        assert_eq!(
            log_of(Cache::Cold, 3),
            [
                ("base", 0),
                ("fused", 2),
                ("peak", 0),
                ("peak", 0),
                ("fused", 3),
                ("base", 1),
                ("base", 2),
                ("fused", 0),
                ("peak", 0),
            ]
        );
    }

    #[test]
    fn warm_weights_stay_in_their_slot() {
        assert!(log_of(Cache::WarmW, 5).iter().all(|&(_, slot)| slot == 0));
    }

    #[test]
    fn times_are_in_the_order_of_the_methods() {
        let log = Log::default();
        let [short, long] = [0, 20].map(Duration::from_millis);
        let stub = |time| -> Box<dyn Method> {
            Box::new(Stub { name: "", computes: Some(Strategy::Base), time, log: Rc::clone(&log) })
        };
        let mut normals = Normals::new(1);
        let mut tokens: Vec<_> = (0..2).map(|_| tokens::slot(&Workload::ALL[0], 1, &mut normals)).collect();
        let mut lineup =
            Lineup::new(vec![stub(short), stub(long)], Ring::cold(2, 1, 0), Cache::Cold, &mut tokens);
        let rounds: Vec<_> = (0..4).map(|_| lineup.round()).collect();
        assert!(rounds.iter().all(|times| times[1] >= long), "{rounds:?}");
        // A busy machine may hold up some call, but not the first of each round, whichever way it goes.
        for direction in 0..2 {
            assert!(rounds.iter().skip(direction).step_by(2).any(|times| times[0] < long), "{rounds:?}");
        }
    }
}

//! Methods on the host: called on buffers in its memory, timed by its clock.

use std::time::{Duration, Instant};

use crate::lineup::Contest;
use crate::method::Method;
use crate::ring::Ring;
use crate::settings::Cache;
use crate::tokens::Tokens;

/// Methods and the buffers that they run on. A call is one forward pass on one slot.
pub struct OnHost<'a> {
    methods: Vec<Box<dyn Method + 'a>>,
    ring: Ring,
    cache: Cache,
    /// By slot and projection.
    tokens: &'a mut [Vec<Tokens>],
}

impl<'a> OnHost<'a> {
    /// Those methods; the ones that compute nothing come last, and no slot is kept for them.
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
    ) -> OnHost<'a> {
        let computing = methods.iter().filter(|method| method.computes().is_some()).count();
        assert_eq!(ring.methods(), computing, "a ring for other methods");
        assert!(tokens.len() >= ring.slots(), "{} slots of tokens for {ring:?}", tokens.len());
        assert!(
            methods.is_sorted_by_key(|method| method.computes().is_none()),
            "a method that computes comes late"
        );
        OnHost { methods, ring, cache, tokens }
    }
}

impl Contest for OnHost<'_> {
    fn methods(&self) -> usize {
        self.methods.len()
    }

    fn time(&mut self, place: usize, round: usize) -> anyhow::Result<Duration> {
        let method = &mut self.methods[place];
        let slot = if method.computes().is_some() { self.ring.slot(place, round) } else { 0 };
        let weights = match self.cache {
            Cache::Cold => slot,
            Cache::WarmW => 0,
        };
        let tokens = &mut self.tokens[slot];
        let start = Instant::now();
        method.call(weights, tokens)?;
        Ok(start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use fused_lora::Strategy;
    use fused_lora_records::Workload;

    use super::*;
    use crate::lineup::Lineup;
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

        fn call(&mut self, slot: usize, _: &mut [Tokens]) -> anyhow::Result<()> {
            self.log.borrow_mut().push((self.name, slot));
            std::thread::sleep(self.time);
            Ok(())
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
        let mut tokens: Vec<_> =
            (0..4).map(|_| tokens::slot(&Workload::LINEARS[0], 1, &mut normals)).collect();
        let ring = Ring::cold(2, 1, 2);
        assert_eq!(ring.slots(), 4);
        let mut lineup = Lineup::new(OnHost::new(methods, ring, cache, &mut tokens));
        for _ in 0..rounds {
            lineup.round().unwrap();
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
        let mut tokens: Vec<_> =
            (0..2).map(|_| tokens::slot(&Workload::LINEARS[0], 1, &mut normals)).collect();
        let methods = vec![stub(short), stub(long)];
        let mut lineup = Lineup::new(OnHost::new(methods, Ring::cold(2, 1, 0), Cache::Cold, &mut tokens));
        let rounds: Vec<_> = (0..4).map(|_| lineup.round().unwrap()).collect();
        assert!(rounds.iter().all(|times| times[1] >= long), "{rounds:?}");
        // A busy machine may hold up some call, but not the first of each round, whichever way it goes.
        for direction in 0..2 {
            assert!(rounds.iter().skip(direction).step_by(2).any(|times| times[0] < long), "{rounds:?}");
        }
    }
}

//! Methods that are timed against each other, round by round.

use std::time::Duration;

use crate::ring::alternating;

/// Methods by place, and what is needed to time a call of each.
pub trait Contest {
    /// How many methods there are.
    fn methods(&self) -> usize;

    /// Forward passes that a call makes.
    fn passes(&self) -> usize {
        1
    }

    /// One call of the method at that place, in that round; how long all of its passes took.
    ///
    /// # Errors
    ///
    /// If the call failed, so that there is no time.
    fn time(&mut self, place: usize, round: usize) -> anyhow::Result<Duration>;
}

/// Rounds of a contest.
///
/// A round is one call of each method. Since a ratio is taken within a round, whatever slows the machine down
/// for longer than a round slows both down; and since the order alternates, neither gains from being the second.
pub struct Lineup<'a> {
    contest: Box<dyn Contest + 'a>,
    rounds: usize,
}

impl<'a> Lineup<'a> {
    /// A line-up that has run no round yet.
    #[must_use]
    pub fn new(contest: impl Contest + 'a) -> Lineup<'a> {
        Lineup { contest: Box::new(contest), rounds: 0 }
    }

    /// Forward passes in each call of a round.
    #[must_use]
    pub fn passes(&self) -> usize {
        self.contest.passes()
    }

    /// One call of each method. The times, each of all passes of its call, are in the order of the methods,
    /// whatever the order of the calls.
    ///
    /// # Errors
    ///
    /// If a call failed.
    pub fn round(&mut self) -> anyhow::Result<Vec<Duration>> {
        let methods = self.contest.methods();
        let mut times = vec![Duration::ZERO; methods];
        let round = self.rounds;
        self.rounds += 1;
        for place in alternating(methods, round) {
            times[place] = self.contest.time(place, round)?;
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many milliseconds as its calls before, so that a time tells which call it is of.
    struct Counter {
        calls: u64,
        fails_at: u64,
    }

    impl Contest for Counter {
        fn methods(&self) -> usize {
            3
        }

        fn passes(&self) -> usize {
            20
        }

        fn time(&mut self, _: usize, _: usize) -> anyhow::Result<Duration> {
            anyhow::ensure!(self.calls != self.fails_at, "the device is gone");
            self.calls += 1;
            Ok(Duration::from_millis(self.calls - 1))
        }
    }

    #[test]
    fn times_are_in_the_order_of_the_methods() {
        let mut lineup = Lineup::new(Counter { calls: 0, fails_at: 8 });
        assert_eq!(lineup.passes(), 20);
        let millis = |times: [u64; 3]| times.map(Duration::from_millis).to_vec();
        assert_eq!(lineup.round().unwrap(), millis([0, 1, 2]));
        assert_eq!(lineup.round().unwrap(), millis([5, 4, 3]));
        assert_eq!(lineup.round().unwrap_err().to_string(), "the device is gone");
    }
}

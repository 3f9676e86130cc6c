//! Which rounds count: those of Criterion's measurement, not those of its warm-up.
//!
//! Criterion calls the routine of `iter_custom` in its warm-up as well, with 1, 2, 4, … iterations, and does not
//! say which call is which. But it takes `sample_size` samples, one call each, and nothing after them: so the
//! last `sample_size` calls are the measurement.

use std::time::Duration;

/// The rounds of every call of the routine.
#[derive(Clone, Debug)]
pub struct Calls {
    calls: Vec<Vec<Vec<Duration>>>,
    passes: usize,
}

/// Of one forward pass each.
impl Default for Calls {
    fn default() -> Calls {
        Calls::of(1)
    }
}

impl Calls {
    /// None yet; in each round, every method makes so many forward passes.
    ///
    /// # Panics
    ///
    /// If that is none.
    #[must_use]
    pub fn of(passes: usize) -> Calls {
        assert!(passes > 0, "a round of no passes takes no time");
        Calls { calls: Vec::new(), passes }
    }

    /// Keeps the rounds of one call.
    pub fn push(&mut self, rounds: Vec<Vec<Duration>>) {
        self.calls.push(rounds);
    }

    /// Whether the routine was called at all: it is not where Criterion's filter leaves its id out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// The time of all methods in all rounds, warm-up included.
    #[must_use]
    pub fn busy(&self) -> Duration {
        self.calls.iter().flatten().flatten().sum()
    }

    /// How many rounds there were, warm-up included.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.calls.iter().map(Vec::len).sum()
    }

    /// The rounds of the last `sample_size` calls; None if there was no call before them, since Criterion's
    /// warm-up always makes one.
    #[must_use]
    pub fn measured(&self, sample_size: usize) -> Option<Rounds> {
        let warm_up = self.calls.len().checked_sub(sample_size).filter(|&calls| calls > 0)?;
        let times = self.calls[warm_up..].iter().flatten().cloned().collect();
        Some(Rounds { times, passes: self.passes })
    }
}

/// The times of a measurement: by round, then by method.
#[derive(Clone, Debug, PartialEq)]
pub struct Rounds {
    /// Of all passes together.
    times: Vec<Vec<Duration>>,
    passes: usize,
}

impl Rounds {
    /// Rounds that were run outside Criterion, of one forward pass each: by round, then by method.
    #[must_use]
    pub fn new(times: Vec<Vec<Duration>>) -> Rounds {
        Rounds { times, passes: 1 }
    }

    /// How many rounds there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// The times of one forward pass of a method, in nanoseconds.
    #[must_use]
    pub fn nanos(&self, method: usize) -> Vec<f64> {
        self.times.iter().map(|round| round[method].as_nanos() as f64 / self.passes as f64).collect()
    }

    /// How much longer one method takes than another, round by round.
    #[must_use]
    pub fn ratios(&self, method: usize, to: usize) -> Vec<f64> {
        let pairs = self.nanos(method).into_iter().zip(self.nanos(to));
        pairs.map(|(time, reference)| time / reference).collect()
    }
}

#[cfg(test)]
mod tests {
    use criterion::{BenchmarkId, Criterion, SamplingMode};

    use super::*;

    /// Runs Criterion itself on a routine that takes `time` an iteration and counts its calls.
    fn under_criterion(sample_size: usize, time: Duration, measurement_time: Duration) -> (Calls, Vec<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let mut criterion = Criterion::default()
            .output_directory(folder.path())
            .without_plots()
            .sample_size(sample_size)
            .nresamples(1001)
            .warm_up_time(Duration::from_millis(20))
            .measurement_time(measurement_time);
        let (mut calls, mut iterations) = (Calls::default(), Vec::new());
        let mut group = criterion.benchmark_group("calls");
        group.sampling_mode(SamplingMode::Flat);
        group.bench_function(BenchmarkId::new("counted", sample_size), |bencher| {
            bencher.iter_custom(|iters| {
                // Each round holds the number of its call, so that the test sees which calls were kept.
                let call = Duration::from_nanos(iterations.len() as u64);
                iterations.push(iters);
                std::thread::sleep(time * iters as u32);
                calls.push((0..iters).map(|_| vec![call]).collect());
                time * iters as u32
            });
        });
        group.finish();
        (calls, iterations)
    }

    #[test]
    fn only_the_samples_of_criterion_are_kept() {
        for (sample_size, measurement_time) in [(10, 100), (25, 400)] {
            let time = Duration::from_millis(1);
            let (calls, iterations) =
                under_criterion(sample_size, time, Duration::from_millis(measurement_time));
            let warm_up = iterations.len() - sample_size;
            assert!(warm_up >= 2, "a warm-up of 20 ms takes several calls: {iterations:?}");
            let doubling: Vec<u64> = (0..warm_up).map(|call| 1 << call).collect();
            assert_eq!(iterations[..warm_up], doubling, "the warm-up doubles its iterations");
            let flat = iterations[warm_up];
            assert!(iterations[warm_up..].iter().all(|&iters| iters == flat), "{iterations:?}");

            let rounds = calls.measured(sample_size).unwrap();
            assert_eq!(rounds.len(), sample_size * flat as usize);
            let kept = rounds.nanos(0);
            assert_eq!(
                kept.first(),
                Some(&(warm_up as f64)),
                "the first call that is kept follows the warm-up"
            );
            assert_eq!(kept.last(), Some(&((iterations.len() - 1) as f64)), "the last call is kept");
            assert_eq!(calls.rounds(), iterations.iter().sum::<u64>() as usize);
        }
    }

    /// A routine slower than the whole warm-up: one call of it, then the samples.
    #[test]
    fn a_slow_routine_is_warmed_up_once() {
        let (calls, iterations) = under_criterion(10, Duration::from_millis(25), Duration::from_millis(1));
        assert_eq!(iterations, [1; 11]);
        let rounds = calls.measured(10).unwrap();
        assert_eq!(rounds.nanos(0), (1..=10).map(f64::from).collect::<Vec<_>>());
    }

    #[test]
    fn a_test_or_a_skipped_id_measures_nothing() {
        let mut calls = Calls::default();
        assert!(calls.is_empty() && calls.measured(10).is_none());
        calls.push(vec![vec![Duration::from_millis(1)]]);
        assert!(!calls.is_empty());
        assert_eq!(calls.measured(10), None);
        assert_eq!(calls.measured(1), None, "what could be the warm-up is no sample");
    }

    #[test]
    fn a_time_is_that_of_one_pass() {
        let mut calls = Calls::of(20);
        calls.push(vec![vec![Duration::from_micros(1)]]);
        calls.push(vec![vec![Duration::from_nanos(50)], vec![Duration::from_micros(30)]]);
        assert_eq!(calls.measured(1).unwrap().nanos(0), [2.5, 1500.0]);
        assert_eq!(calls.busy(), Duration::from_nanos(31_050), "of all passes: that is how long it took");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let millis = |times: [u64; 2]| times.map(Duration::from_millis).to_vec();
        let mut calls = Calls::default();
        calls.push(vec![millis([1, 1])]);
        calls.push(vec![millis([10, 15]), millis([20, 40])]);
        let rounds = calls.measured(1).unwrap();
        assert_eq!(rounds.ratios(1, 0), [1.5, 2.0]);
        assert_eq!(rounds.nanos(0), [1e7, 2e7]);
        assert_eq!(calls.busy(), Duration::from_millis(87));
    }
}

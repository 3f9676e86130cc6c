//! What Criterion gets: times that were measured in rounds; or, where it asks for more than there are, calls.
//!
//! Criterion calls a routine in a warm-up, and then once a sample. Rounds are dealt out to the samples in
//! their order, and none twice, so that Criterion's statistics are those of the times that were measured.
//! Times are per iteration: how many iterations Criterion believes to have asked for does not matter. For a
//! test, `--quick` and `--profile-time` it decides itself how often a method runs.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

use crate::method::{Method, Suite};
use crate::outcome::Outcome;
use crate::rounds::Runner;
use crate::size::Size;

/// The warm-up is over after its first call, by Criterion's own clock.
const WARM_UP: Duration = Duration::from_nanos(1);
/// Longer than a replayed call takes by that clock: with less, Criterion says that it cannot complete its
/// samples.
const MEASUREMENT: Duration = Duration::from_millis(1);

/// Gives Criterion the times of a size, all methods of `group`. Returns how many of them have fewer than
/// `samples`, and are left out.
pub fn replay(criterion: &mut Criterion, group: &str, outcome: &Outcome, samples: usize) -> usize {
    let mut group = criterion.benchmark_group(group);
    let mut left_out = 0;
    for (place, method) in outcome.methods.iter().enumerate().filter(|(_, m)| m.is_for_criterion()) {
        let nanos = outcome.samples.measured(place).map(|measured| measured.nanos).unwrap_or_default();
        let Some(samples) = dealt(&nanos, samples) else {
            left_out += 1;
            continue;
        };
        group.sampling_mode(SamplingMode::Flat).warm_up_time(WARM_UP).measurement_time(MEASUREMENT);
        throughput(&mut group, method);
        // The first call is the warm-up's, whose time is not kept.
        let mut next = std::iter::once(samples[0]).chain(samples);
        group.bench_function(method.ids[0].as_str(), |bencher| {
            bencher.iter_custom(|iterations| {
                let nanos = next.next().expect("Criterion takes one call to warm up, and one a sample");
                Duration::from_nanos((nanos * iterations as f64) as u64)
            });
        });
    }
    group.finish();
    left_out
}

/// The means of `samples` parts of the times, as equal in length as can be; None where there are fewer times
/// than that.
fn dealt(nanos: &[f64], samples: usize) -> Option<Vec<f64>> {
    let bounds = |part: usize| part * nanos.len() / samples;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    (samples > 0 && nanos.len() >= samples)
        .then(|| (0..samples).map(|part| mean(&nanos[bounds(part)..bounds(part + 1)])).collect())
}

/// Lets Criterion list each method of a size, or call it as often as it likes. They are made ready and
/// checked when it calls the first.
pub fn live(
    criterion: &mut Criterion,
    group: &str,
    suite: &mut dyn Suite,
    size: Size,
    methods: &[Method],
    distance: usize,
) -> anyhow::Result<()> {
    let mut group = criterion.benchmark_group(group);
    let mut runner = None;
    for (place, method) in methods.iter().enumerate().filter(|(_, method)| !method.is_probe()) {
        throughput(&mut group, method);
        let mut failed = None;
        group.bench_function(method.ids[0].as_str(), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut calls = || -> anyhow::Result<f64> {
                    let runner = match &mut runner {
                        Some(runner) => runner,
                        none => none.insert(Runner::new(suite, size, methods, distance, &mut |_, wrong| {
                            eprintln!("{wrong}; it is timed all the same");
                        })?),
                    };
                    let iterations = if runner.has(place) { iterations } else { 0 };
                    (0..iterations).map(|_| Ok(runner.call(place)?.wall)).sum()
                };
                calls().map(Duration::from_secs_f64).unwrap_or_else(|error| {
                    failed.get_or_insert(error);
                    // Criterion has no way to be told, but takes no time for a time.
                    Duration::from_nanos(iterations)
                })
            });
        });
        if let Some(error) = failed {
            return Err(error);
        }
    }
    group.finish();
    Ok(())
}

/// An element is an operation: Criterion's "Gelem/s" are GFLOP/s.
fn throughput(group: &mut BenchmarkGroup<'_, WallTime>, method: &Method) {
    group.throughput(Throughput::Elements(method.work.flops as u64));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::testing::{SIZE, leg, method};
    use crate::time::Time;

    #[test]
    fn each_time_is_dealt_once() {
        let nanos: Vec<f64> = (0..13).map(f64::from).collect();
        assert_eq!(dealt(&nanos[..10], 10).unwrap(), nanos[..10]);
        let samples = dealt(&nanos, 10).unwrap();
        assert_eq!(samples.len(), 10);
        assert_eq!((samples[0], samples[9]), (0.0, 11.5));
        assert_eq!(dealt(&nanos[..12], 3).unwrap(), [1.5, 5.5, 9.5]);
        assert_eq!((dealt(&nanos[..9], 10), dealt(&nanos, 0)), (None, None));
    }

    /// Under Criterion itself: what it keeps of each id are that method's own times, not the base's.
    #[test]
    fn criterion_keeps_the_times_of_each_method() {
        let folder = tempfile::tempdir().unwrap();
        let mut criterion = Criterion::default()
            .output_directory(folder.path())
            .without_plots()
            .sample_size(10)
            .nresamples(1001);
        let methods = vec![method("base", 0, Some(0)), method("fused", 10, Some(0))];
        let mut outcome = Outcome::new(SIZE, methods, 2);
        let time = |wall: f64| Time { wall, cpu: None };
        for round in 0..20 {
            let [base, own] = [1e-3, 1.1e-3].map(|wall| time(wall * (1.0 + 0.001 * f64::from(round))));
            leg(&mut outcome.samples, 1, round as usize, own, [base; 2]);
        }
        assert_eq!(replay(&mut criterion, "group", &outcome, 10), 0);
        // Two rounds are a sample of either; the base is called twice a round.
        for (id, millis) in [("r0_base", 1.0), ("r10_fused", 1.1)] {
            let expected: Vec<f64> =
                (0..10).map(|i| millis * (1.0 + 0.001 * (2 * i) as f64 + 0.0005)).collect();
            let found = samples(&folder.path().join("group").join(id));
            let close = found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-5);
            assert!(found.len() == 10 && close, "{id}: {found:?} for {expected:?}");
        }
        assert_eq!(replay(&mut criterion, "other", &outcome, 41), 2, "there are 20 rounds");
    }

    /// Milliseconds an iteration of Criterion's samples, from what it wrote below a folder.
    fn samples(folder: &std::path::Path) -> Vec<f64> {
        let path = folder.join("new/sample.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let sample: serde_json::Value = serde_json::from_str(&text).unwrap();
        let numbers =
            |key: &str| sample[key].as_array().unwrap().iter().map(|number| number.as_f64().unwrap());
        numbers("times").zip(numbers("iters")).map(|(time, iters)| time / iters * 1e-6).collect()
    }
}

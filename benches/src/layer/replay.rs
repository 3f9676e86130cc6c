//! Criterion's share of rounds that are over: each of its samples is the mean of some of them.
//!
//! Criterion calls a routine once in a warm-up of no length, and then once a sample. Rounds are dealt out to the samples in their order,
//! and none twice, so that Criterion's statistics are those of the times that were measured. Times are per iteration: how many
//! iterations Criterion believes to have asked for does not matter, and with no time to measure in it is one.

use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, SamplingMode, Throughput};

/// No time at all: Criterion asserts that there is some.
const NO_TIME: Duration = Duration::from_nanos(1);

/// Gives an id the times of its rounds, in nanoseconds. Nothing happens where there are fewer than `samples`: then Criterion could only
/// be given some of them twice.
///
/// Returns whether Criterion had them.
pub fn replay(
    group: &mut BenchmarkGroup<'_, WallTime>,
    in_group: &str,
    flops: f64,
    samples: usize,
    nanos: &[f64],
) -> bool {
    let Some(samples) = dealt(nanos, samples) else { return false };
    group.sampling_mode(SamplingMode::Flat).warm_up_time(NO_TIME).measurement_time(NO_TIME);
    // An element is an operation: Criterion's "Gelem/s" are GFLOP/s.
    group.throughput(Throughput::Elements(flops as u64));
    let mut ran = false;
    // The first call is the warm-up's, whose time is not kept.
    let mut next = std::iter::once(samples[0]).chain(samples);
    group.bench_function(in_group, |bencher| {
        bencher.iter_custom(|iterations| {
            ran = true;
            let nanos = next.next().expect("Criterion takes one call to warm up, and one a sample");
            Duration::from_nanos((nanos * iterations as f64) as u64)
        });
    });
    ran
}

/// The means of `samples` parts of the times, as equal in length as can be.
fn dealt(nanos: &[f64], samples: usize) -> Option<Vec<f64>> {
    let bounds = |part: usize| part * nanos.len() / samples;
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    (samples > 0 && nanos.len() >= samples)
        .then(|| (0..samples).map(|part| mean(&nanos[bounds(part)..bounds(part + 1)])).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use criterion::Criterion;

    use super::*;

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

    /// Under Criterion itself: what it keeps are those samples, whatever it makes of its own clock.
    #[test]
    fn criterion_keeps_the_times_of_the_rounds() {
        let folder = tempfile::tempdir().unwrap();
        let mut criterion = Criterion::default()
            .output_directory(folder.path())
            .without_plots()
            .sample_size(10)
            .nresamples(1001);
        let mut group = criterion.benchmark_group("replay");
        let nanos: Vec<f64> = (1..=20).map(|i| f64::from(i) * 1e6).collect();
        assert!(replay(&mut group, "r10/method", 1e9, 10, &nanos));
        assert!(!replay(&mut group, "r10/other", 1e9, 10, &nanos[..9]));
        group.finish();
        let found = find(folder.path(), "sample.json").expect("Criterion has written its samples");
        let text = fs::read_to_string(found).unwrap();
        let numbers = |key: &str| -> Vec<f64> {
            let from = text.find(&format!("\"{key}\":[")).unwrap() + key.len() + 4;
            let to = from + text[from..].find(']').unwrap();
            text[from..to].split(',').map(|number| number.parse().unwrap()).collect()
        };
        let each: Vec<f64> =
            numbers("times").iter().zip(numbers("iters")).map(|(time, iters)| time / iters).collect();
        assert_eq!(each, (0..10).map(|i| f64::from(2 * i + 1) * 1e6 + 0.5e6).collect::<Vec<_>>());
    }

    fn find(folder: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
        let entries = fs::read_dir(folder).ok()?.flatten();
        entries.map(|entry| entry.path()).find_map(|path| {
            if path.is_dir() { find(&path, name) } else { path.ends_with(name).then_some(path) }
        })
    }
}

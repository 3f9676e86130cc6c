//! This library beside others, from rounds in which all of them ran.

use std::fmt::Write as _;

use fused_lora::Strategy;
use fused_lora_benches::markdown::markdown;
use fused_lora_benches::method::{Provider, Task};
use fused_lora_benches::outcome::Outcome;
use fused_lora_benches::stats::{Median, geometric_mean};

/// The tables, in Markdown. Speeds are GFLOP/s of useful operations. Nothing of sizes in which no other
/// library ran. Of PyTorch, whose calls stand apart from ours in a round, medians are compared, without an
/// interval.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    table(&mut text, outcomes, "Base product", Strategy::Base);
    table(&mut text, outcomes, "Base, shrink and expand", Strategy::Fused);
    if text.contains("\\*") {
        text.push_str("\\* its results break the tolerance of the reference.\n");
    }
    text
}

/// Places of methods that compute the same at one rank: this library's first, then one or more of others.
fn entries(outcome: &Outcome, ours: Strategy) -> Vec<Vec<usize>> {
    let is_measured = |place: &usize| outcome.samples.measured(*place).is_some();
    let rank = |place: usize| outcome.methods[place].rank;
    let computes = |place: usize| match (outcome.methods[place].task, outcome.methods[place].provider) {
        (Task::Linear(strategy), Provider::Library(0)) => (strategy == ours).then_some(0),
        (Task::Linear(strategy), _) => {
            ((strategy == Strategy::Base) == (ours == Strategy::Base)).then_some(1)
        }
        _ => None,
    };
    let (first, others): (Vec<usize>, Vec<usize>) = (0..outcome.methods.len())
        .filter(|place| is_measured(place) && computes(*place).is_some())
        .partition(|&place| computes(place) == Some(0));
    let entry = |first: usize| {
        let same = others.iter().copied().filter(|&other| rank(other) == rank(first));
        [first].into_iter().chain(same).collect::<Vec<usize>>()
    };
    first.into_iter().map(entry).filter(|entry| entry.len() > 1).collect()
}

fn table(text: &mut String, outcomes: &[Outcome], title: &str, ours: Strategy) {
    let of_outcome = |outcome| entries(outcome, ours).into_iter().map(move |places| (outcome, places));
    let entries: Vec<(&Outcome, Vec<usize>)> = outcomes.iter().flat_map(of_outcome).collect();
    // A filter may have left some libraries out of some sizes.
    let mut names: Vec<&str> = Vec::new();
    for (outcome, places) in &entries {
        for &place in places {
            let name = outcome.methods[place].names[0].as_str();
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    if entries.is_empty() {
        return;
    }
    let mut head = ["cell", "M", "peak"].map(str::to_owned).to_vec();
    head.extend(names.iter().map(|name| {
        let inexact = outcomes.iter().any(|outcome| outcome.inexact.iter().any(|other| other == name));
        format!("{name}{}", if inexact { " \\*" } else { "" })
    }));
    head.push("of peak".to_owned());
    head.extend((ours == Strategy::Fused).then(|| "slow-down (floor)".to_owned()));
    head.push("to the best peer".to_owned());

    let mut rows = vec![head];
    let mut speed_ups = Vec::new();
    for (outcome, places) in &entries {
        let (place, method) = (places[0], &outcome.methods[places[0]]);
        let nanos =
            |place: usize| outcome.samples.measured(place).map_or(f64::NAN, |measured| measured.time.median);
        let gflops = |place: usize| outcome.methods[place].work.flops / nanos(place);
        let best = places[1..].iter().copied().max_by(|&a, &b| gflops(a).total_cmp(&gflops(b)));
        let speed_up = best.and_then(|best| match outcome.methods[best].provider {
            Provider::Library(_) => outcome.samples.times_as_long(best, place),
            Provider::Torch => Some(Median { median: nanos(best) / nanos(place), interval: None }),
        });
        let Some(speed_up) = speed_up else { continue };
        let cell = outcome.size.cell(method.rank);
        let peak = outcome.limits().map(|(flops, _)| flops * 1e-9);
        let of_peak = |text: &dyn Fn(f64) -> String| peak.map_or_else(String::new, text);
        let mut row = vec![cell.to_string(), cell.m().to_string(), of_peak(&|peak| format!("{peak:.0}"))];
        row.extend(names.iter().map(|name| {
            let found = places.iter().copied().find(|&place| outcome.methods[place].names[0] == *name);
            let bold = if found == best { "**" } else { "" };
            found.map_or_else(String::new, |place| format!("{bold}{:.0}{bold}", gflops(place)))
        }));
        row.push(of_peak(&|peak| format!("{:.1} %", 100.0 * gflops(place) / peak)));
        if ours == Strategy::Fused {
            let slowdown = outcome.samples.measured(place).and_then(|measured| measured.ratio);
            let floor = method.floor.map_or(0.0, |floor| floor.pad_pct.unwrap_or(floor.pct));
            row.push(slowdown.map_or_else(String::new, |ratio| {
                format!("{:.1} % ({floor:.1} %)", 100.0 * (ratio.median - 1.0))
            }));
        }
        let interval = speed_up.interval.map_or_else(String::new, |(lo, hi)| format!(" [{lo:.2}, {hi:.2}]"));
        row.push(format!("{:.2}{interval}", speed_up.median));
        rows.push(row);
        speed_ups.push((speed_up.median, cell));
    }

    let _ = writeln!(text, "{title}, GFLOP/s; the best peer in bold:\n");
    markdown(text, &rows);
    let ratios: Vec<f64> = speed_ups.iter().map(|&(ratio, _)| ratio).collect();
    let weakest = speed_ups.iter().min_by(|a, b| a.0.total_cmp(&b.0));
    if let Some((mean, (ratio, cell))) = geometric_mean(&ratios).zip(weakest) {
        let _ = writeln!(
            text,
            "\nGeometric mean of {}: {mean:.2} times the best peer. Weakest: {cell}, {ratio:.2} times.\n",
            ratios.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use fused_lora_benches::method::{Floor, Method, Probe, Work};
    use fused_lora_benches::samples::Observation;
    use fused_lora_benches::size::Size;
    use fused_lora_benches::time::Time;

    use super::*;

    /// Calls of so many microseconds: our base, two peers' bases, our fused, their three calls, the peak.
    fn outcome(batch: usize, micros: [f64; 7]) -> Outcome {
        let methods = [
            (Task::Linear(Strategy::Base), 0, "ours/base", 0),
            (Task::Linear(Strategy::Base), 1, "a/base", 0),
            (Task::Linear(Strategy::Base), 2, "b/base", 0),
            (Task::Linear(Strategy::Fused), 0, "ours/fused", 100),
            (Task::Linear(Strategy::Unfused), 1, "a/unfused", 100),
            (Task::Linear(Strategy::Unfused), 2, "b/unfused", 100),
            (Task::Probe(Probe::Peak), 0, "peak", 0),
            (Task::Probe(Probe::Bandwidth), 0, "read-bandwidth", 0),
        ];
        let methods = methods.map(|(task, library, name, rank)| Method {
            base: matches!(task, Task::Linear(..)).then_some(0),
            work: Work { flops: 1e8, bytes: 1e8 },
            floor: (rank > 0).then_some(Floor { pct: 19.5, pad_pct: Some(19.5) }),
            ..Method::new(name, rank, task, Provider::Library(library))
        });
        let mut outcome = Outcome::new(Size { seq_len: 128, batch }, methods.to_vec(), 2);
        let time = |micros: f64| Time { wall: micros * 1e-6, cpu: None };
        for round in 0..8 {
            // Slower by the round: no ratio changes.
            let slower = 1.0 + 0.01 * round as f64;
            let bases = [time(slower * micros[0]); 2];
            outcome.samples.called(0, bases[0]);
            for (place, micros) in micros.iter().enumerate().take(6).skip(1) {
                let own = time(slower * micros);
                outcome.samples.observed(place, Observation { round, own, bases });
            }
            outcome.samples.called(6, time(micros[6]));
            outcome.samples.called(7, time(1.0));
        }
        outcome
    }

    #[test]
    fn ratios_are_to_the_best_peer() {
        let mut first = outcome(1, [1000.0, 1600.0, 2000.0, 1250.0, 2000.0, 2500.0, 500.0]);
        first.inexact.push("a/base".to_owned());
        let text = render(&[first, outcome(4, [1000.0, 1000.0, 900.0, 1250.0, 1500.0, 1250.0, 500.0])]);
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // 1e8 operations in 1 ms are 100 GFLOP/s; the median round is 3.5 % slower than the first.
        for expected in [
            "| seq128/batch1/r0 | 128 | 200 | 97 | **60** | 48 | 48.3 % | 1.60 [1.60, 1.60] |",
            "| seq128/batch4/r0 | 512 | 200 | 97 | 97 | **107** | 48.3 % | 0.90 [0.90, 0.90] |",
            "Geometric mean of 2: 1.20 times the best peer. Weakest: seq128/batch4/r0, 0.90 times.",
            "| seq128/batch1/r100 | 128 | 200 | 77 | **48** | 39 | 38.6 % | 25.0 % (19.5 %) | \
             1.60 [1.60, 1.60] |",
            "| ours/base | a/base \\* | b/base |",
            "break the tolerance",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }

    /// PyTorch's base has no observation beside ours.
    #[test]
    fn pytorch_is_a_peer_by_its_medians() {
        let mut outcome = outcome(4, [1000.0, 1000.0, 900.0, 1250.0, 1500.0, 1250.0, 500.0]);
        outcome.methods[2].provider = Provider::Torch;
        let text = render(&[outcome]).split_whitespace().collect::<Vec<_>>().join(" ");
        let row = "| seq128/batch4/r0 | 512 | 200 | 97 | 97 | **107** | 48.3 % | 0.90 |";
        assert!(text.contains(row), "{row} is not in {text}");
    }

    #[test]
    fn nothing_measured_prints_nothing() {
        assert_eq!(render(&[]), "");
    }
}

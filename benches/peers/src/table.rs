//! This library beside others, from rounds in which all of them ran.

use std::fmt::Write as _;

use fused_lora::Strategy;
use fused_lora_benches::markdown::markdown;
use fused_lora_benches::method::What;
use fused_lora_benches::outcome::Outcome;
use fused_lora_benches::stats::geometric_mean;

/// The tables, in Markdown. Speeds are GFLOP/s of useful operations. Nothing of sizes in which no other library ran.
#[must_use]
pub fn render(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    table(&mut text, outcomes, "Base product", Strategy::Base);
    table(&mut text, outcomes, "Base, shrink and expand", Strategy::Fused);
    if outcomes.iter().any(|outcome| !outcome.inexact.is_empty()) {
        text.push_str("\\* its results break the tolerance of the reference.\n");
    }
    text
}

/// This library's method of a rank, and the others' that compute the same.
struct Entry<'a> {
    outcome: &'a Outcome,
    ours: usize,
    peers: Vec<usize>,
}

impl Entry<'_> {
    fn gflops(&self, place: usize) -> f64 {
        let nanos = self.outcome.measured(place).map_or(f64::NAN, |measured| measured.time.median);
        self.outcome.methods[place].work.flops / nanos
    }

    fn best(&self) -> Option<usize> {
        self.peers.iter().copied().max_by(|&a, &b| self.gflops(a).total_cmp(&self.gflops(b)))
    }
}

fn entries(outcome: &Outcome, ours: Strategy) -> Vec<Entry<'_>> {
    let is_base = ours == Strategy::Base;
    let find = |place: &usize| {
        let method = &outcome.methods[*place];
        matches!(method.what, What::Linear(0, strategy) if strategy == ours)
            && outcome.measured(*place).is_some()
    };
    let entry = |ours: usize| {
        let rank = outcome.methods[ours].rank;
        let of_peer = |place: &usize| match outcome.methods[*place].what {
            What::Linear(library, strategy) => {
                library > 0
                    && (strategy == Strategy::Base) == is_base
                    && outcome.methods[*place].rank == rank
                    && outcome.measured(*place).is_some()
            }
            _ => false,
        };
        Entry { outcome, ours, peers: (0..outcome.methods.len()).filter(of_peer).collect() }
    };
    (0..outcome.methods.len()).filter(find).map(entry).filter(|entry| !entry.peers.is_empty()).collect()
}

fn table(text: &mut String, outcomes: &[Outcome], title: &str, ours: Strategy) {
    let entries: Vec<Entry<'_>> = outcomes.iter().flat_map(|outcome| entries(outcome, ours)).collect();
    // A filter may have left some libraries out of some sizes.
    let mut names: Vec<&str> = Vec::new();
    for name in entries.iter().flat_map(|entry| {
        [entry.ours]
            .into_iter()
            .chain(entry.peers.iter().copied())
            .map(|p| &entry.outcome.methods[p].names[0])
    }) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    if entries.is_empty() {
        return;
    }
    let mut head = vec!["cell".to_owned(), "M".to_owned(), "fma-peak".to_owned()];
    head.extend(names.iter().map(|name| {
        let inexact = outcomes.iter().any(|outcome| outcome.inexact.iter().any(|other| other == name));
        format!("{name}{}", if inexact { " \\*" } else { "" })
    }));
    head.push("of peak".to_owned());
    if ours == Strategy::Fused {
        head.push("slow-down (floor)".to_owned());
    }
    head.push("to the best peer".to_owned());

    let mut rows = vec![head];
    let mut speed_ups = Vec::new();
    for entry in &entries {
        let Entry { outcome, ours: place, .. } = entry;
        let Some(best) = entry.best() else { continue };
        let Some(speed_up) = outcome.seen.times_as_long(best, *place) else { continue };
        let method = &outcome.methods[*place];
        let cell = outcome.size.cell(method.rank);
        let peak = outcome.limits().map(|(flops, _)| flops * 1e-9);
        let mut row = vec![cell.to_string(), cell.m().to_string()];
        row.push(peak.map_or_else(String::new, |peak| format!("{peak:.0}")));
        row.extend(names.iter().map(|name| {
            let mut places = [*place].into_iter().chain(entry.peers.iter().copied());
            let found = places.find(|&place| outcome.methods[place].names[0] == *name);
            let bold = if found == Some(best) { "**" } else { "" };
            found.map_or_else(String::new, |place| format!("{bold}{:.0}{bold}", entry.gflops(place)))
        }));
        row.push(
            peak.map_or_else(String::new, |peak| format!("{:.1} %", 100.0 * entry.gflops(*place) / peak)),
        );
        if ours == Strategy::Fused {
            let slowdown = outcome.measured(*place).and_then(|measured| measured.ratio);
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
    use fused_lora_benches::method::{Method, Probe};
    use fused_lora_benches::seen::Observation;
    use fused_lora_benches::size::Size;
    use fused_lora_benches::time::Time;
    use fused_lora_benches::work::{Floor, Work};

    use super::*;

    fn method(what: What, name: &str, rank: usize, base: Option<usize>) -> Method {
        Method {
            what,
            names: vec![name.to_owned()],
            rank,
            ids: vec![format!("r{rank}/{name}")],
            base,
            work: Work { flops: 1e8, bytes: 1e8 },
            floor: (rank > 0).then_some(Floor { pct: 19.5, pad_pct: Some(19.5) }),
            dtype: "f16",
            ours: matches!(what, What::Linear(0, _)),
        }
    }

    /// Calls of so many microseconds: our base, two peers' bases, our fused, their three calls, the peak.
    fn outcome(batch: usize, micros: [f64; 7]) -> Outcome {
        let base = Some(0);
        let linear = |library, strategy| What::Linear(library, strategy);
        let methods = vec![
            method(linear(0, Strategy::Base), "ours/base", 0, base),
            method(linear(1, Strategy::Base), "a/base", 0, base),
            method(linear(2, Strategy::Base), "b/base", 0, base),
            method(linear(0, Strategy::Fused), "ours/fused", 100, base),
            method(linear(1, Strategy::Unfused), "a/unfused", 100, base),
            method(linear(2, Strategy::Unfused), "b/unfused", 100, base),
            method(What::Probe(Probe::Peak), "fma-peak", 0, None),
            method(What::Probe(Probe::Bandwidth), "read-bandwidth", 0, None),
        ];
        let mut outcome = Outcome::new(Size { seq_len: 128, batch }, methods, 2);
        let time = |micros: f64| Time { wall: micros * 1e-6, cpu: None };
        for round in 0..8 {
            // Slower by the round: no ratio changes.
            let slower = 1.0 + 0.01 * round as f64;
            let bases = [time(slower * micros[0]); 2];
            outcome.seen.called(0, bases[0]);
            for (place, micros) in micros.iter().enumerate().take(6).skip(1) {
                let own = time(slower * micros);
                outcome.seen.observed(place, Observation { round, own, bases });
            }
            outcome.seen.called(6, time(micros[6]));
            outcome.seen.called(7, time(1.0));
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
            "| seq128/batch1/r100 | 128 | 200 | 77 | **48** | 39 | 38.6 % | 25.0 % (19.5 %) | 1.60 [1.60, 1.60] |",
            "| ours/base | a/base \\* | b/base |",
            "break the tolerance",
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }
    }

    #[test]
    fn nothing_measured_prints_nothing() {
        assert_eq!(render(&[]), "");
    }
}

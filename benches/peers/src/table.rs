//! What `peers` prints: this library beside the others, from rounds in which all of them ran.

use std::fmt::Write as _;

use fused_lora_records::Cell;

use crate::calls::Rounds;
use crate::stats::{Estimate, bootstrap_median, geometric_mean, median};

/// The rounds of one cell, and who ran in them.
pub struct Entry {
    /// The cell.
    pub cell: Cell,
    /// Name and operations of each method, in the order of the rounds.
    pub methods: Vec<Contender>,
    /// Their times.
    pub rounds: Rounds,
    /// The least slow-down that the padded rank allows, in percent.
    pub floor_pad_pct: f64,
}

/// One method of an entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Contender {
    /// Its name.
    pub name: String,
    /// Its operations.
    pub flops: f64,
    /// What it is in the comparison.
    pub role: Role,
    /// Whether its results break the tolerance.
    pub inexact: bool,
}

/// What a method is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// This library's base product.
    OurBase,
    /// This library's fused strategy.
    OurFused,
    /// This library's unfused strategy: in the records, not in the tables.
    OurUnfused,
    /// Another library.
    Peer,
    /// The machine's limit.
    Peak,
}

impl Entry {
    fn place(&self, role: Role) -> Option<usize> {
        self.methods.iter().position(|method| method.role == role)
    }

    fn nanos(&self, place: usize) -> f64 {
        median(&self.rounds.nanos(place))
    }

    fn gflops(&self, place: usize) -> f64 {
        self.methods[place].flops / self.nanos(place)
    }

    fn best_peer(&self) -> Option<usize> {
        let peers = (0..self.methods.len()).filter(|&place| self.methods[place].role == Role::Peer);
        peers.min_by(|&a, &b| self.nanos(a).total_cmp(&self.nanos(b)))
    }

    /// How many times as long the best peer takes as `ours`.
    fn speed_up(&self, ours: Role) -> Option<(usize, Estimate)> {
        let (ours, best) = (self.place(ours)?, self.best_peer()?);
        Some((best, bootstrap_median(&self.rounds.ratios(best, ours))))
    }

    fn of_peak(&self, place: usize) -> Option<Estimate> {
        let peak = self.place(Role::Peak)?;
        let scale = self.methods[place].flops / self.methods[peak].flops;
        Some(bootstrap_median(&self.rounds.ratios(peak, place)).map(|ratio| 100.0 * scale * ratio))
    }
}

/// The tables, in Markdown. Speeds are GFLOP/s of useful operations.
#[must_use]
pub fn render(entries: &[Entry]) -> String {
    let mut text = String::new();
    for (ours, title) in [(Role::OurBase, "Base product"), (Role::OurFused, "Base, shrink and expand")] {
        let subject = |entry: &&Entry| (ours == Role::OurFused) == entry.place(Role::OurFused).is_some();
        let entries: Vec<&Entry> =
            entries.iter().filter(subject).filter(|entry| entry.speed_up(ours).is_some()).collect();
        if !entries.is_empty() {
            table(&mut text, title, ours, &entries);
        }
    }
    if entries.iter().any(|entry| entry.methods.iter().any(|method| method.inexact)) {
        text.push_str("\\* its results break the tolerance of the reference.\n");
    }
    text
}

fn table(text: &mut String, title: &str, ours: Role, entries: &[&Entry]) {
    let columns = |role: Role| -> Vec<usize> {
        let methods = &entries[0].methods;
        (0..methods.len()).filter(|&place| methods[place].role == role).collect()
    };
    let shown: Vec<usize> = [Role::Peak, ours, Role::Peer].into_iter().flat_map(columns).collect();
    let mut rows = Vec::new();
    let mut head = vec!["cell".to_owned(), "M".to_owned()];
    head.extend(shown.iter().map(|&place| {
        let method = &entries[0].methods[place];
        let inexact = entries.iter().any(|entry| entry.methods[place].inexact);
        format!("{}{}", method.name, if inexact { " \\*" } else { "" })
    }));
    head.push("of peak".to_owned());
    if ours == Role::OurFused {
        head.push("slow-down (floor)".to_owned());
    }
    head.push("to the best peer".to_owned());
    rows.push(head);

    let mut speed_ups = Vec::new();
    for entry in entries {
        let Some((place, (best, speed_up))) = entry.place(ours).zip(entry.speed_up(ours)) else { continue };
        let mut row = vec![entry.cell.to_string(), entry.cell.m().to_string()];
        row.extend(shown.iter().map(|&place| {
            let bold = if place == best { "**" } else { "" };
            format!("{bold}{:.0}{bold}", entry.gflops(place))
        }));
        row.push(entry.of_peak(place).map_or_else(String::new, |percent| format!("{:.1} %", percent.median)));
        if ours == Role::OurFused {
            let slowdown = entry.place(Role::OurBase).map(|base| {
                bootstrap_median(&entry.rounds.ratios(place, base)).map(|ratio| 100.0 * (ratio - 1.0))
            });
            let floor = entry.floor_pad_pct;
            row.push(slowdown.map_or_else(String::new, |s| format!("{:.1} % ({floor:.1} %)", s.median)));
        }
        row.push(format!("{:.2} [{:.2}, {:.2}]", speed_up.median, speed_up.lo, speed_up.hi));
        rows.push(row);
        speed_ups.push((speed_up.median, entry.cell));
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

/// Columns as wide as their widest field.
pub(crate) fn markdown(text: &mut String, rows: &[Vec<String>]) {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for (number, row) in rows.iter().enumerate() {
        for (field, &width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {field:>width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            for width in &widths {
                let _ = write!(text, "|{:->1$}:", "", width + 1);
            }
            text.push_str("|\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::calls::Calls;

    fn entry(cell: Cell, methods: &[(&str, Role, u64)]) -> Entry {
        let mut calls = Calls::default();
        calls.push(Vec::new());
        let round = |factor: u64| {
            methods.iter().map(|&(_, _, micros)| Duration::from_micros(micros * factor)).collect()
        };
        // Twice as slow in the middle: no ratio changes.
        calls.push((0..9).map(|i| round(1 + u64::from(i == 4))).collect());
        Entry {
            cell,
            methods: methods
                .iter()
                .map(|&(name, role, _)| Contender {
                    name: name.to_owned(),
                    flops: 1e8,
                    role,
                    inexact: name == "a/base",
                })
                .collect(),
            rounds: calls.measured(1).unwrap(),
            floor_pad_pct: 19.5,
        }
    }

    fn cell(batch: usize, rank: usize) -> Cell {
        Cell { seq_len: 128, batch, rank }
    }

    #[test]
    fn ratios_are_to_the_best_peer() {
        let bases = [
            ("ours/base", Role::OurBase),
            ("a/base", Role::Peer),
            ("b/base", Role::Peer),
            ("peak", Role::Peak),
        ];
        let base = |batch, times: [u64; 4]| {
            let methods: Vec<_> =
                bases.iter().zip(times).map(|(&(name, role), time)| (name, role, time)).collect();
            entry(cell(batch, 0), &methods)
        };
        let fused = entry(
            cell(1, 100),
            &[
                ("ours/base", Role::OurBase, 1000),
                ("ours/fused", Role::OurFused, 1250),
                ("a/unfused", Role::Peer, 2000),
                ("b/unfused", Role::Peer, 2500),
                ("peak", Role::Peak, 500),
            ],
        );
        let text = render(&[base(1, [1000, 1600, 2000, 800]), base(4, [1000, 1000, 900, 500]), fused]);
        // 1e8 operations in 1 ms are 100 GFLOP/s.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for expected in [
            "| seq128/batch1/r0 | 128 | 125 | 100 | **62** | 50 | 80.0 % | 1.60 [1.60, 1.60] |",
            "| seq128/batch4/r0 | 512 | 200 | 100 | 100 | **111** | 50.0 % | 0.90 [0.90, 0.90] |",
            "Geometric mean of 2: 1.20 times the best peer. Weakest: seq128/batch4/r0, 0.90 times.",
            "| seq128/batch1/r100 | 128 | 200 | 80 | **50** | 40 | 40.0 % | 25.0 % (19.5 %) | 1.60 [1.60, 1.60] |",
            "Geometric mean of 1: 1.60 times",
            "| a/base \\* | b/base |",
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

//! What the records say of what is expected: how close fused LoRA is to its floor, and whether slow-downs go the way they should.
//!
//! Nothing fails here. A machine that others use breaks any bar on a bad day; the table says what was measured on this one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fused_lora_records::{Cell, Record};

use crate::markdown::markdown;

/// Fused LoRA is to stay below `FACTOR` · floor + `POINTS` percent where there are at least `TOKENS` tokens.
const FACTOR: f64 = 1.05;
const POINTS: f64 = 3.0;
const TOKENS: usize = 1024;

/// A direction of the grid, and which way slow-down goes in it.
#[derive(Clone, Copy)]
enum Axis {
    Rank,
    Batch,
    SeqLen,
}

/// What two cells of a method should not be.
#[derive(Clone, Debug, PartialEq)]
struct Violation {
    from: Cell,
    to: Cell,
    slowdowns: [f64; 2],
}

impl Axis {
    const ALL: [Axis; 3] = [Axis::Rank, Axis::Batch, Axis::SeqLen];

    fn says(self) -> &'static str {
        match self {
            Axis::Rank => "rises with r",
            Axis::Batch => "falls with batch",
            Axis::SeqLen => "falls with seq_len",
        }
    }

    /// Whether `to` lies behind `from` in this direction, and nowhere else in the others. What r = 0 shows is noise, which has no
    /// direction in batch or seq_len.
    fn joins(self, from: Cell, to: Cell) -> bool {
        match self {
            Axis::Rank => from.rank < to.rank && Cell { rank: to.rank, ..from } == to,
            Axis::Batch => from.rank > 0 && from.batch < to.batch && Cell { batch: to.batch, ..from } == to,
            Axis::SeqLen => {
                from.rank > 0 && from.seq_len < to.seq_len && Cell { seq_len: to.seq_len, ..from } == to
            }
        }
    }

    /// Whether the intervals lie apart, the wrong way round.
    fn is_broken(self, from: &Interval, to: &Interval) -> bool {
        match self {
            Axis::Rank => to.hi < from.lo,
            Axis::Batch | Axis::SeqLen => to.lo > from.hi,
        }
    }
}

struct Interval {
    lo: f64,
    median: f64,
    hi: f64,
}

fn interval(record: &Record) -> Option<Interval> {
    Some(Interval { lo: record.slowdown_lo_pct?, median: record.slowdown_pct?, hi: record.slowdown_hi_pct? })
}

/// All pairs of a method's cells in that direction, and those of them that go the wrong way.
fn trend(records: &[&Record], axis: Axis) -> (usize, Vec<Violation>) {
    let mut pairs = 0;
    let mut violations = Vec::new();
    for from in records {
        for to in records.iter().filter(|to| axis.joins(from.cell(), to.cell())) {
            let (Some(before), Some(behind)) = (interval(from), interval(to)) else { continue };
            pairs += 1;
            if axis.is_broken(&before, &behind) {
                let slowdowns = [before.median, behind.median];
                violations.push(Violation { from: from.cell(), to: to.cell(), slowdowns });
            }
        }
    }
    (pairs, violations)
}

/// The record of fused LoRA with the least room below its bar, and that room in points: negative where it is above.
fn least_room(records: &[Record]) -> Option<(&Record, f64)> {
    let fused = records.iter().filter(|record| record.method.starts_with("lora-fused"));
    let large = fused.filter(|record| record.cell().m() >= TOKENS && record.rank > 0);
    large
        .filter_map(|record| Some((record, FACTOR * record.floor_pct? + POINTS - record.slowdown_pct?)))
        .min_by(|a, b| a.1.total_cmp(&b.1))
}

/// The verdict in words and a table; nothing where there is nothing to judge. Peers' records are passed over.
#[must_use]
pub fn render(records: &[Record]) -> String {
    let mut text = String::new();
    if let Some((record, room)) = least_room(records) {
        let Record { method, slowdown_pct, slowdown_lo_pct, slowdown_hi_pct, floor_pct, .. } = record;
        let percent =
            |value: &Option<f64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value:.1}"));
        let _ = writeln!(
            text,
            "{method} and {FACTOR} · floor + {POINTS} points at M >= {TOKENS}: {}. Least room: {}, {} % [{}, {}] with a floor of {} %, \
             {} points {} the bar.",
            if room >= 0.0 { "below everywhere" } else { "NOT below everywhere" },
            record.cell(),
            percent(slowdown_pct),
            percent(slowdown_lo_pct),
            percent(slowdown_hi_pct),
            percent(floor_pct),
            percent(&Some(room.abs())),
            if room >= 0.0 { "below" } else { "ABOVE" },
        );
    }
    let ours = |record: &&Record| record.slowdown_pct.is_some() && !record.method.contains('/');
    let methods: BTreeSet<&str> = records.iter().filter(ours).map(|record| record.method.as_str()).collect();
    let mut rows = vec![vec!["slow-down".to_owned()]];
    rows[0].extend(Axis::ALL.map(|axis| axis.says().to_owned()));
    let mut broken = String::new();
    let mut any = false;
    for method in methods {
        let of_method: Vec<&Record> = records.iter().filter(|record| record.method == method).collect();
        let mut row = vec![method.to_owned()];
        for axis in Axis::ALL {
            let (pairs, violations) = trend(&of_method, axis);
            any |= pairs > 0;
            row.push(format!("{} of {pairs}", pairs - violations.len()));
            for Violation { from, to, slowdowns: [before, behind] } in violations {
                let _ = writeln!(
                    broken,
                    "  {method} {}: not from {from}, {before:.1} %, to {to}, {behind:.1} %",
                    axis.says()
                );
            }
        }
        rows.push(row);
    }
    if any {
        text.push_str("\nPairs of cells that are in order, or whose 95 % intervals overlap:\n\n");
        markdown(&mut text, &rows);
        if !broken.is_empty() {
            let _ = write!(text, "\nPairs whose intervals lie apart the wrong way round:\n{broken}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn slow(
        method: &str,
        (seq_len, batch, rank): (usize, usize, usize),
        slowdown: f64,
        floor: f64,
    ) -> Record {
        Record {
            slowdown_pct: Some(slowdown),
            slowdown_lo_pct: Some(slowdown - 1.0),
            slowdown_hi_pct: Some(slowdown + 1.0),
            floor_pct: Some(floor),
            ..record(method, Cell { seq_len, batch, rank }, 1e6)
        }
    }

    #[test]
    fn the_cell_with_the_least_room_is_found() {
        let mut records = vec![
            // Small: no bar there.
            slow("lora-fused", (128, 4, 100), 90.0, 13.0),
            slow("lora-fused", (128, 8, 100), 15.0, 13.0),
            slow("lora-fused", (128, 8, 250), 35.0, 32.6),
            slow("lora-unfused", (128, 8, 250), 80.0, 32.6),
            slow("lora-fused", (128, 8, 0), 9.0, 0.0),
        ];
        // 1.05 · 13 + 3 − 15 = 1.65; 1.05 · 32.6 + 3 − 35 = 2.23.
        let (record, room) = least_room(&records).unwrap();
        assert_eq!(record.rank, 100);
        assert!((room - 1.65).abs() < 1e-9, "{room}");
        let text = render(&records);
        assert!(
            text.contains("below everywhere") && text.contains("seq128/batch8/r100, 15.0 % [14.0, 16.0]"),
            "{text}"
        );
        assert!(text.contains("1.6 points below") || text.contains("1.7 points below"), "{text}");

        records.push(slow("lora-fused", (256, 8, 10), 5.0, 1.3));
        let text = render(&records);
        assert!(text.contains("NOT below everywhere") && text.contains("0.6 points ABOVE"), "{text}");
        assert!(text.contains("seq256/batch8/r10"), "{text}");
    }

    #[test]
    fn what_goes_the_wrong_way_is_listed() {
        let records = [
            slow("adapter-h", (128, 1, 0), 0.0, 0.0),
            slow("adapter-h", (128, 1, 10), 20.0, 0.3),
            // Less than at r = 10, and the intervals lie apart.
            slow("adapter-h", (128, 1, 100), 17.0, 3.3),
            // Less, but they overlap.
            slow("adapter-h", (128, 1, 250), 18.5, 8.1),
            // More than at batch 1; at r = 0, that is noise.
            slow("adapter-h", (128, 2, 10), 23.0, 0.3),
            slow("adapter-h", (128, 2, 0), 5.0, 0.0),
            slow("adapter-h", (256, 1, 10), 12.0, 0.3),
            slow("torch-fp32/adapter-h", (128, 1, 10), 1.0, 0.3),
            slow("torch-fp32/adapter-h", (128, 2, 10), 50.0, 0.3),
        ];
        let of = |axis| trend(&records[..7].iter().collect::<Vec<_>>(), axis);
        let (pairs, violations) = of(Axis::Rank);
        assert_eq!((pairs, violations.len()), (6 + 1, 1));
        assert_eq!((violations[0].from.rank, violations[0].to.rank), (10, 100));
        let (pairs, violations) = of(Axis::Batch);
        assert_eq!((pairs, violations.len()), (1, 1));
        assert_eq!(violations[0].slowdowns, [20.0, 23.0]);
        assert_eq!(of(Axis::SeqLen), (1, Vec::new()));

        let text = render(&records);
        let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("| adapter-h | 6 of 7 | 0 of 1 | 1 of 1 |"), "{text}");
        assert!(text.contains("not from seq128/batch1/r10, 20.0 %, to seq128/batch1/r100, 17.0 %"), "{text}");
        assert!(!text.contains("torch"), "{text}");
    }

    #[test]
    fn nothing_measured_says_nothing() {
        assert_eq!(render(&[]), "");
        assert_eq!(render(&[record("none", Cell { seq_len: 128, batch: 1, rank: 0 }, 1e6)]), "");
    }
}

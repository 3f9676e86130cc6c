//! What the records say: how close fused LoRA is to its floor, whether slow-downs go the way they should, and
//! how this library compares with PyTorch in the same rounds.
//!
//! Nothing fails here. A machine that others use breaks any bar on a bad day; the tables say what was
//! measured on this one.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use fused_lora_records::{Cell, Record};

use super::variant::torch_name;
use crate::markdown::markdown;

/// Fused LoRA is to stay below `FACTOR` · floor + `POINTS` percent where there are at least `TOKENS` tokens.
const FACTOR: f64 = 1.05;
const POINTS: f64 = 3.0;
const TOKENS: usize = 1024;

/// A direction of the grid, and which way slow-down goes in it.
struct Axis {
    says: &'static str,
    rises: bool,
    of: fn(&mut Cell) -> &mut usize,
}

const AXES: [Axis; 3] = [
    Axis { says: "rises with r", rises: true, of: |cell| &mut cell.rank },
    Axis { says: "falls with batch", rises: false, of: |cell| &mut cell.batch },
    Axis { says: "falls with seq_len", rises: false, of: |cell| &mut cell.seq_len },
];

impl Axis {
    /// Whether `to` lies behind `from` in this direction, and nowhere else in the others. What r = 0 shows is
    /// noise, which has no direction in batch or seq_len.
    fn joins(&self, mut from: Cell, mut to: Cell) -> bool {
        let (here, there) = ((self.of)(&mut from), *(self.of)(&mut to));
        let is_behind = *here < there;
        *here = there;
        is_behind && from == to && (self.rises || to.rank > 0)
    }

    /// The number of pairs of a method's cells in this direction, and a line for each whose intervals lie
    /// apart the wrong way round. Slow-downs are in the middle of their intervals.
    fn trend(&self, method: &str, cells: &[(Cell, [f64; 3])]) -> (usize, Vec<String>) {
        let (mut pairs, mut lines) = (0, Vec::new());
        for &(from, before) in cells {
            for &(to, behind) in cells.iter().filter(|&&(to, _)| self.joins(from, to)) {
                pairs += 1;
                let [low, high] = if self.rises { [before, behind] } else { [behind, before] };
                if high[2] < low[0] {
                    let ([_, before, _], [_, behind, _], says) = (before, behind, self.says);
                    lines.push(format!(
                        "  {method} {says}: not from {from}, {before:.1} %, to {to}, {behind:.1} %\n"
                    ));
                }
            }
        }
        (pairs, lines)
    }
}

/// All of it in words and tables; nothing where there is nothing to judge.
pub fn render(records: &[Record]) -> String {
    bar(records) + &trends(records) + &ratios(records)
}

/// The record of fused LoRA with the least room below its bar.
fn bar(records: &[Record]) -> String {
    let fused = records.iter().filter(|record| record.method.starts_with("lora-fused"));
    let large = fused.filter(|record| record.cell().m() >= TOKENS && record.rank > 0);
    // In points; negative where it is above.
    let room = |record: &Record| Some(FACTOR * record.floor_pct? + POINTS - record.slowdown_pct?);
    let least = large.filter_map(|record| Some((record, room(record)?))).min_by(|a, b| a.1.total_cmp(&b.1));
    let Some((record, room)) = least else { return String::new() };
    let percent = |value: Option<f64>| value.map_or_else(|| "?".to_owned(), |value| format!("{value:.1}"));
    let [slowdown, lo, hi, floor] =
        [record.slowdown_pct, record.slowdown_lo_pct, record.slowdown_hi_pct, record.floor_pct].map(percent);
    format!(
        "{} and {FACTOR} · floor + {POINTS} points at M >= {TOKENS}: {}. Least room: {}, {slowdown} % \
         [{lo}, {hi}] with a floor of {floor} %, {:.1} points {} the bar.\n",
        record.method,
        if room >= 0.0 { "below everywhere" } else { "NOT below everywhere" },
        record.cell(),
        room.abs(),
        if room >= 0.0 { "below" } else { "ABOVE" },
    )
}

/// Peers' records are passed over.
fn trends(records: &[Record]) -> String {
    let ours = |record: &&Record| record.slowdown_pct.is_some() && !record.method.contains('/');
    let methods: BTreeSet<&str> = records.iter().filter(ours).map(|record| record.method.as_str()).collect();
    let mut rows = vec![vec!["slow-down".to_owned()]];
    rows[0].extend(AXES.map(|axis| axis.says.to_owned()));
    let (mut all, mut broken) = (0, String::new());
    for method in methods {
        let known = |r: &Record| Some((r.cell(), [r.slowdown_lo_pct?, r.slowdown_pct?, r.slowdown_hi_pct?]));
        let of_method = records.iter().filter(|record| record.method == method);
        let cells: Vec<_> = of_method.filter_map(known).collect();
        let mut row = vec![method.to_owned()];
        for axis in &AXES {
            let (pairs, lines) = axis.trend(method, &cells);
            all += pairs;
            row.push(format!("{} of {pairs}", pairs - lines.len()));
            broken.extend(lines);
        }
        rows.push(row);
    }
    if all == 0 {
        return String::new();
    }
    let mut text = "\nPairs of cells that are in order, or whose 95 % intervals overlap:\n\n".to_owned();
    markdown(&mut text, &rows);
    if !broken.is_empty() {
        let _ = write!(text, "\nPairs whose intervals lie apart the wrong way round:\n{broken}");
    }
    text
}

/// Our time over that of PyTorch's method of the same arithmetic, the median of either. At r = 0 there is
/// `none` alone.
fn ratios(records: &[Record]) -> String {
    let ratio = |ours: &Record| {
        let name = format!("torch-fp32/{}", torch_name(&ours.method));
        let theirs = records.iter().find(|other| other.method == name && other.cell() == ours.cell())?;
        Some((ours.method.clone(), ours.cell(), ours.time_ns / theirs.time_ns))
    };
    let ours = records.iter().filter(|record| record.rank > 0 || record.method == "none");
    let all: Vec<(String, Cell, f64)> = ours.filter_map(ratio).collect();
    let Some((method, cell, worst)) = all.iter().max_by(|a, b| a.2.total_cmp(&b.2)) else {
        return String::new();
    };
    let methods: BTreeSet<&String> = all.iter().map(|(method, ..)| method).collect();
    let mut rows = vec![vec!["cell".to_owned(), "M".to_owned()]];
    rows[0].extend(methods.iter().copied().cloned());
    for cell in all.iter().map(|&(_, cell, _)| cell).collect::<BTreeSet<_>>() {
        let mut row = vec![cell.to_string(), cell.m().to_string()];
        row.extend(methods.iter().map(|&method| {
            let found = all.iter().find(|(of_method, of_cell, _)| (of_method, *of_cell) == (method, cell));
            found.map_or_else(String::new, |(.., ratio)| format!("{ratio:.2}"))
        }));
        rows.push(row);
    }
    let mut text =
        "\nTime of this library over that of PyTorch's fp32 layer in the same rounds:\n\n".to_owned();
    markdown(&mut text, &rows);
    let slower = all.iter().filter(|(.., ratio)| *ratio > 1.0).count();
    let _ = writeln!(text, "\nWorst: {method} at {cell}, {worst:.2}. Slower in {slower} of {}.", all.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn slow(method: &str, (seq_len, batch, rank): (usize, usize, usize), slowdown: f64) -> Record {
        Record {
            slowdown_pct: Some(slowdown),
            slowdown_lo_pct: Some(slowdown - 1.0),
            slowdown_hi_pct: Some(slowdown + 1.0),
            floor_pct: Some(0.12 * rank as f64),
            ..record(method, Cell { seq_len, batch, rank }, 1e6)
        }
    }

    fn assert_says(text: &str, parts: &[&str]) {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }

    #[test]
    fn the_cell_with_the_least_room_is_found() {
        let mut records = vec![
            // Small: no bar there.
            slow("lora-fused", (128, 4, 100), 90.0),
            slow("lora-fused", (128, 8, 100), 15.0),
            slow("lora-fused", (128, 8, 250), 33.0),
            slow("lora-unfused", (128, 8, 250), 80.0),
            slow("lora-fused", (128, 8, 0), 9.0),
        ];
        // 1.05 · 12 + 3 − 15 = 0.6; 1.05 · 30 + 3 − 33 = 1.5.
        let found = "lora-fused and 1.05 · floor + 3 points at M >= 1024: below everywhere. Least room: \
                     seq128/batch8/r100, \
                     15.0 % [14.0, 16.0] with a floor of 12.0 %, 0.6 points below the bar.";
        assert_says(&render(&records), &[found]);
        records.push(slow("lora-fused", (256, 8, 10), 5.0));
        let text = render(&records);
        assert_says(&text, &["NOT below everywhere", "seq256/batch8/r10, 5.0 %", "0.7 points ABOVE"]);
    }

    #[test]
    fn what_goes_the_wrong_way_is_listed() {
        let records = [
            slow("adapter-h", (128, 1, 0), 0.0),
            slow("adapter-h", (128, 1, 10), 20.0),
            // Less than at r = 10, and the intervals lie apart.
            slow("adapter-h", (128, 1, 100), 17.0),
            // Less, but they overlap.
            slow("adapter-h", (128, 1, 250), 18.5),
            // More than at batch 1; at r = 0, that is noise.
            slow("adapter-h", (128, 2, 10), 23.0),
            slow("adapter-h", (128, 2, 0), 5.0),
            slow("adapter-h", (256, 1, 10), 12.0),
            slow("torch-fp32/adapter-h", (128, 1, 10), 1.0),
            slow("torch-fp32/adapter-h", (128, 2, 10), 50.0),
        ];
        let text = render(&records);
        assert_says(
            &text,
            &[
                "| slow-down | rises with r | falls with batch | falls with seq_len |",
                "| adapter-h | 6 of 7 | 0 of 1 | 1 of 1 |",
                "adapter-h rises with r: not from seq128/batch1/r10, 20.0 %, to seq128/batch1/r100, 17.0 %",
                "falls with batch: not from seq128/batch1/r10, 20.0 %, to seq128/batch2/r10, 23.0 %",
            ],
        );
        assert_eq!(text.matches("not from").count(), 2, "{text}");
        assert!(!trends(&records).contains("torch"), "{text}");
    }

    #[test]
    fn both_of_loras_are_held_against_pytorchs_one() {
        let cell = |rank| Cell { seq_len: 128, batch: 1, rank };
        let records = [
            record("none", cell(0), 1e6),
            record("torch-fp32/none", cell(0), 2e6),
            // At r = 0 these are the bare layer again, and PyTorch has no such thing.
            record("lora-fused", cell(0), 9e6),
            record("lora-fused", cell(10), 1.5e6),
            record("lora-unfused", cell(10), 2.2e6),
            record("torch-fp32/lora", cell(10), 2e6),
            record("adapter-h", cell(10), 1e6),
        ];
        assert_says(
            &render(&records),
            &[
                "| cell | M | lora-fused | lora-unfused | none |",
                "| seq128/batch1/r0 | 128 | | | 0.50 |",
                "| seq128/batch1/r10 | 128 | 0.75 | 1.10 | |",
                "Worst: lora-unfused at seq128/batch1/r10, 1.10. Slower in 1 of 3.",
            ],
        );
        assert_eq!(render(&records[2..4]), "");
        assert_eq!(render(&[]), "");
    }
}

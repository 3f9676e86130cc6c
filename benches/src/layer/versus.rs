//! This library beside PyTorch, from rounds in which both ran.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use fused_lora_records::{Cell, Record};

use crate::markdown::markdown;

/// The record of PyTorch's that has the same arithmetic as one of ours.
fn counterpart(method: &str) -> Option<&'static str> {
    match method {
        "none" => Some("torch-fp32/none"),
        "adapter-h" => Some("torch-fp32/adapter-h"),
        "adapter-l" => Some("torch-fp32/adapter-l"),
        "lora-unfused" | "lora-fused" => Some("torch-fp32/lora"),
        "lora-unfused-qv" | "lora-fused-qv" => Some("torch-fp32/lora-qv"),
        _ => None,
    }
}

/// Our time over PyTorch's, the median of either, by method and cell. At r = 0 there is `none` alone.
fn ratios(records: &[Record]) -> BTreeMap<&str, BTreeMap<Cell, f64>> {
    let find = |method: &str, cell: Cell| {
        records
            .iter()
            .find(|record| record.method == method && record.cell() == cell)
            .map(|record| record.time_ns)
    };
    let mut ratios: BTreeMap<&str, BTreeMap<Cell, f64>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.rank > 0 || record.method == "none") {
        let theirs = counterpart(&record.method).and_then(|method| find(method, record.cell()));
        if let Some(theirs) = theirs {
            ratios.entry(&record.method).or_default().insert(record.cell(), record.time_ns / theirs);
        }
    }
    ratios
}

/// A table of the ratios, and the worst of them; nothing where PyTorch did not run.
#[must_use]
pub fn render(records: &[Record]) -> String {
    let ratios = ratios(records);
    let mut text = String::new();
    let worst = ratios
        .iter()
        .flat_map(|(&method, cells)| cells.iter().map(move |(&cell, &ratio)| (ratio, method, cell)))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let Some((worst, method, cell)) = worst else { return text };
    let mut rows = vec![vec!["cell".to_owned(), "M".to_owned()]];
    rows[0].extend(ratios.keys().map(|&method| method.to_owned()));
    let mut cells: Vec<Cell> = ratios.values().flat_map(BTreeMap::keys).copied().collect();
    cells.sort_unstable();
    cells.dedup();
    for cell in cells {
        let mut row = vec![cell.to_string(), cell.m().to_string()];
        row.extend(
            ratios
                .values()
                .map(|of_method| of_method.get(&cell).map_or_else(String::new, |r| format!("{r:.2}"))),
        );
        rows.push(row);
    }
    text.push_str("\nTime of this library over that of PyTorch's fp32 layer in the same rounds:\n\n");
    markdown(&mut text, &rows);
    let all: Vec<f64> = ratios.values().flat_map(BTreeMap::values).copied().collect();
    let slower = all.iter().filter(|&&ratio| ratio > 1.0).count();
    let _ = writeln!(text, "\nWorst: {method} at {cell}, {worst:.2}. Slower in {slower} of {}.", all.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

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
        let text = render(&records).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "| cell | M | lora-fused | lora-unfused | none |",
            "| seq128/batch1/r0 | 128 | | | 0.50 |",
            "| seq128/batch1/r10 | 128 | 0.75 | 1.10 | |",
            "Worst: lora-unfused at seq128/batch1/r10, 1.10. Slower in 1 of 3.",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(render(&records[2..4]), "");
    }
}

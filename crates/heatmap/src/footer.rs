//! What stands below the figure: where the numbers come from, and the floor to read them against.

use std::collections::BTreeSet;

use fused_lora_sweep::{RANKS, Record};

use crate::{Metric, Selection};

/// Lines of items; each line may be broken between its items.
pub(crate) fn lines(selection: &Selection, metric: Metric, has_missing: bool) -> Vec<Vec<String>> {
    let mut lines = vec![machine(selection), measurement(selection)];
    let mut notes = Vec::new();
    if matches!(metric, Metric::Slowdown | Metric::OverFloor) {
        notes.extend(floors(selection));
    }
    if has_missing {
        notes.push("hatched: not measured".to_owned());
    }
    if !notes.is_empty() {
        lines.push(notes);
    }
    lines
}

fn machine(selection: &Selection) -> Vec<String> {
    let mut items = vec![selection.backend.clone()];
    items.extend(distinct(selection, |record| Some(record.device.clone())));
    let threads = distinct(selection, |record| record.threads.map(|threads| threads.to_string()));
    if !threads.is_empty() {
        let unit = if threads == ["1"] { "thread" } else { "threads" };
        items.push(format!("{} {unit}", threads.join(" or ")));
    }
    for texts in [distinct(selection, |r| text(&r.simd)), distinct(selection, |r| text(&r.driver))] {
        if !texts.is_empty() {
            items.push(texts.join(" or "));
        }
    }
    items
}

fn measurement(selection: &Selection) -> Vec<String> {
    let mut items = vec![selection.workload.clone()];
    for (name, widths) in [
        ("K", distinct(selection, |record| text(&record.d_in))),
        ("N", distinct(selection, |record| text(&record.d_out))),
    ] {
        items.push(format!("{name} = {}", widths.join(" or ")));
    }
    items.push(match selection.cache.as_str() {
        "cold" => "cold caches".to_owned(),
        "warm-w" => "warm W".to_owned(),
        other => format!("cache: {other}"),
    });
    let commits = distinct(selection, |record| Some(commit(record)));
    let plural = if commits.len() == 1 { "" } else { "s" };
    items.push(format!("commit{plural} {}", commits.join(", ")));
    let dates = distinct(selection, |record| Some(record.measured_at.date()));
    match dates.as_slice() {
        [first, .., last] => items.push(format!("{first} to {last}")),
        dates => items.extend(dates.iter().cloned()),
    }
    items
}

/// The adapter's arithmetic alone, at each rank that costs something.
fn floors(selection: &Selection) -> Option<String> {
    let of = |rank: usize| {
        let floor =
            selection.drawn().filter(|record| record.rank == rank).find_map(|record| record.floor_pct)?;
        Some(format!("{floor:.1} % at r = {rank}"))
    };
    let floors: Vec<String> = RANKS.into_iter().filter(|&rank| rank > 0).filter_map(of).collect();
    (!floors.is_empty()).then(|| format!("floor (the adapter's arithmetic alone): {}", floors.join(", ")))
}

fn commit(record: &Record) -> String {
    let short: String = record.commit.chars().take(12).collect();
    if record.dirty { format!("{short} (dirty)") } else { short }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn distinct(selection: &Selection, of: impl Fn(&Record) -> Option<String>) -> Vec<String> {
    selection.drawn().filter_map(of).collect::<BTreeSet<String>>().into_iter().collect()
}

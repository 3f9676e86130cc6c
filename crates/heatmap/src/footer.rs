//! What stands below the figure: where the numbers come from, and the floor to read them against.

use std::collections::BTreeSet;

use fused_lora_records::{Clock, RANKS, Record};

use crate::metric::Metric;
use crate::select::{Selection, SelectionRow};

/// Lines of items; each line may be broken between its items.
pub(crate) fn lines(selection: &Selection, metric: Metric, has_missing: bool) -> Vec<Vec<String>> {
    let drawn: Vec<&Record> = selection.drawn().collect();
    let mut lines = vec![machine(&selection.backend, &drawn), measurement(selection, &drawn)];
    let mut notes = Vec::new();
    if metric.is_over_base() {
        lines.push(floors(selection));
        notes.extend(intervals(&drawn));
        notes.extend(cpu_ratios(&drawn));
    }
    notes.extend(repeated(&drawn));
    if has_missing {
        notes.push("hatched: not measured".to_owned());
    }
    lines.push(notes);
    lines.retain(|line| !line.is_empty());
    lines
}

/// What the records were measured on.
pub(crate) fn machine(backend: &str, drawn: &[&Record]) -> Vec<String> {
    let mut items = vec![backend.to_owned()];
    items.extend(distinct(drawn, |record| Some(record.device.clone())));
    let threads = distinct(drawn, |record| record.threads.map(|threads| threads.to_string()));
    if !threads.is_empty() {
        let unit = if threads == ["1"] { "thread" } else { "threads" };
        items.push(format!("{} {unit}", threads.join(" or ")));
    }
    for texts in [distinct(drawn, |r| text(&r.simd)), distinct(drawn, |r| text(&r.driver))] {
        if !texts.is_empty() {
            items.push(texts.join(" or "));
        }
    }
    items
}

fn measurement(selection: &Selection, drawn: &[&Record]) -> Vec<String> {
    let mut items = vec![selection.workload.clone()];
    for (name, widths) in [
        ("K", distinct(drawn, |record| text(&record.d_in))),
        ("N", distinct(drawn, |record| text(&record.d_out))),
    ] {
        items.push(format!("{name} = {}", widths.join(" or ")));
    }
    items.push(selection.dtype.clone());
    if selection.adapters > 1 {
        items.push(format!("{} adapters", selection.adapters));
    }
    items.extend(circumstances(&selection.cache, drawn));
    items
}

/// How the records were measured, of which code, and when.
pub(crate) fn circumstances(cache: &str, drawn: &[&Record]) -> Vec<String> {
    let mut items = vec![match cache {
        "cold" => "cold caches".to_owned(),
        "warm-w" => "warm W".to_owned(),
        other => format!("cache: {other}"),
    }];
    let commits = distinct(drawn, |record| Some(commit(record)));
    let plural = if commits.len() == 1 { "" } else { "s" };
    items.push(format!("commit{plural} {}", commits.join(", ")));
    let dates = distinct(drawn, |record| Some(record.measured_at.date()));
    match dates.as_slice() {
        [first, .., last] => items.push(format!("{first} to {last}")),
        dates => items.extend(dates.iter().cloned()),
    }
    items
}

/// The adapter's arithmetic alone, at each rank that costs something; where it differs, method by method.
fn floors(selection: &Selection) -> Vec<String> {
    let ranks: Vec<usize> = RANKS.into_iter().filter(|&rank| rank > 0).collect();
    let mut groups: Vec<(Vec<Option<String>>, Vec<&str>)> = Vec::new();
    for row in &selection.rows {
        let floors: Vec<Option<String>> = ranks.iter().map(|&rank| floor(row, rank)).collect();
        match groups.iter_mut().find(|group| group.0 == floors) {
            Some((_, methods)) => methods.push(&row.method),
            None => groups.push((floors, vec![&row.method])),
        }
    }
    groups.retain(|(floors, _)| floors.iter().any(Option::is_some));
    if let [(floors, _)] = groups.as_slice() {
        let at_rank =
            |(rank, floor): (&usize, &Option<String>)| Some(format!("{} % at r = {rank}", floor.as_ref()?));
        let floors: Vec<String> = ranks.iter().zip(floors).filter_map(at_rank).collect();
        return vec![format!("floor (the adapter's arithmetic alone): {}", floors.join(", "))];
    }
    let slashed = |texts: Vec<String>| texts.join(" / ");
    let ranks = slashed(ranks.iter().map(usize::to_string).collect());
    let of_methods = |(i, (floors, methods)): (usize, &(Vec<Option<String>>, Vec<&str>))| {
        let floors =
            slashed(floors.iter().map(|floor| floor.clone().unwrap_or_else(|| "–".to_owned())).collect());
        let head = if i == 0 { format!("floor (arithmetic alone) at r = {ranks}: ") } else { String::new() };
        format!("{head}{} {floors} %", methods.join(", "))
    };
    groups.iter().enumerate().map(of_methods).collect()
}

/// The floor of a method at a rank, to one decimal. It is the same in all cells of that rank.
fn floor(row: &SelectionRow, rank: usize) -> Option<String> {
    let mut at_rank = row.records.values().filter(|record| record.rank == rank);
    at_rank.find_map(|record| record.floor_pct).map(|floor| format!("{floor:.1}"))
}

/// How sure the slow-downs are: half of the width of their 95 % intervals, where there are any.
fn intervals(drawn: &[&Record]) -> Option<String> {
    let half_width = |record: &Record| Some((record.slowdown_hi_pct? - record.slowdown_lo_pct?) / 2.0);
    let mut widths: Vec<f64> = drawn.iter().filter_map(|record| half_width(record)).collect();
    widths.sort_by(f64::total_cmp);
    let (median, largest) = (widths.get(widths.len() / 2)?, widths.last()?);
    let without = drawn.iter().filter(|r| r.slowdown_pct.is_some() && half_width(r).is_none()).count();
    let without = if without > 0 { format!(", none in {}", cells(without)) } else { String::new() };
    Some(format!(
        "95 % intervals: ±{median:.1} points in the median cell, ±{largest:.1} in the widest{without}"
    ))
}

/// How many slow-downs were not computed from wall times.
pub(crate) fn cpu_ratios(drawn: &[&Record]) -> Option<String> {
    let by_cpu = |record: &&&Record| record.slowdown_pct.is_some() && record.ratio_by == Clock::Cpu;
    let count = drawn.iter().filter(by_cpu).count();
    (count > 0).then(|| format!("ratios of CPU time in {}", cells(count)))
}

/// How many of all rounds were disturbed, thrown away and run again.
pub(crate) fn repeated(drawn: &[&Record]) -> Option<String> {
    let sum = |of: fn(&Record) -> usize| drawn.iter().map(|record| of(record) as f64).sum::<f64>();
    let (samples, repeated) = (sum(|record| record.samples), sum(|record| record.repeated));
    let share = 100.0 * repeated / (samples + repeated);
    share.is_finite().then(|| format!("{share:.1} % of rounds repeated"))
}

fn cells(count: usize) -> String {
    if count == 1 { "1 cell".to_owned() } else { format!("{count} cells") }
}

fn commit(record: &Record) -> String {
    let short: String = record.commit.chars().take(12).collect();
    if record.dirty { format!("{short} (dirty)") } else { short }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn distinct(drawn: &[&Record], of: impl Fn(&Record) -> Option<String>) -> Vec<String> {
    drawn.iter().filter_map(|record| of(record)).collect::<BTreeSet<String>>().into_iter().collect()
}

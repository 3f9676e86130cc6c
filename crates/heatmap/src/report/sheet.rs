//! What one page can show: per sheet one workload, backend, device, state of the caches, element type, number
//! of adapters, and set of rows.

use std::collections::BTreeSet;

use clap::ValueEnum as _;
use fused_lora_records::Record;

use crate::error::Error;
use crate::metric::Metric;
use crate::select::{BASES, MAX_ROWS, Query, Selection, on_grid, usual_rows};

/// The records of figures that differ in their metric alone.
#[derive(Clone, Debug)]
pub(super) struct Sheet {
    /// Of each metric that there is a number of; at least one.
    pub(super) selections: Vec<(Metric, Selection)>,
    pub(super) device: String,
}

impl Sheet {
    /// Every sheet: the rows that are asked for or, without any, all that were measured, those of the plain
    /// figure first.
    pub(super) fn all(rows: &[String], records: &[Record]) -> Result<Vec<Sheet>, Error> {
        let is_wanted = |method: &String| {
            if rows.is_empty() { !BASES.contains(&method.as_str()) } else { rows.contains(method) }
        };
        let drawable = |record: &&Record| on_grid(record) && is_wanted(&record.method);
        let key = |record: &Record| {
            let Record { workload, backend, device, cache, dtype, adapters, .. } = record;
            ([workload, backend, device, cache, dtype].map(String::clone), *adapters)
        };
        let keys: BTreeSet<([String; 5], usize)> = records.iter().filter(drawable).map(key).collect();
        let mut sheets = Vec::new();
        for own_key in keys {
            let own = records.iter().filter(drawable).filter(|record| key(record) == own_key);
            let ([workload, backend, device, cache, dtype], adapters) = own_key.clone();
            let methods: BTreeSet<&str> = own.map(|record| record.method.as_str()).collect();
            for rows in row_sets(rows, &workload, adapters > 1, &methods) {
                let query = Query {
                    rows,
                    workload: Some(workload.clone()),
                    backend: Some(backend.clone()),
                    device: Some(device.clone()),
                    mix_devices: false,
                    cache: Some(cache.clone()),
                    dtype: Some(dtype.clone()),
                    adapters: Some(adapters),
                    simd: None,
                };
                let mut selections = Vec::new();
                for &metric in Metric::value_variants() {
                    match query.select(records.to_vec(), metric) {
                        Ok(selection) => selections.push((metric, selection)),
                        // Of peers, say, nobody recorded the floor.
                        Err(Error::NothingToDraw(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                if !selections.is_empty() {
                    sheets.push(Sheet { selections, device: device.clone() });
                }
            }
        }
        Ok(sheets)
    }

    /// Any of them: they hold the same records.
    pub(super) fn selection(&self) -> &Selection {
        &self.selections[0].1
    }
}

/// The rows of each sheet of one workload.
fn row_sets(asked: &[String], workload: &str, mixes: bool, methods: &BTreeSet<&str>) -> Vec<Vec<String>> {
    let owned = |rows: &[&str]| -> Vec<String> { rows.iter().map(|row| (*row).to_owned()).collect() };
    if !asked.is_empty() {
        let is_measured = asked.iter().any(|method| methods.contains(method.as_str()));
        return if is_measured { vec![asked.to_vec()] } else { Vec::new() };
    }
    let usual = usual_rows(workload, mixes, methods);
    let is_usual = |method: &&str| usual.iter().any(|other| other == method);
    let mut sets = Vec::new();
    if methods.iter().any(is_usual) {
        // An empty set stands for the usual rows, also those that were not measured.
        sets.push(Vec::new());
    }
    let others: Vec<&str> = methods.iter().copied().filter(|method| !is_usual(method)).collect();
    sets.extend(others.chunks(MAX_ROWS).map(owned));
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(asked: &[&str], methods: &[&str]) -> Vec<Vec<String>> {
        let asked: Vec<String> = asked.iter().map(|row| (*row).to_owned()).collect();
        row_sets(&asked, "linear-1024x1024", false, &methods.iter().copied().collect())
    }

    #[test]
    fn every_method_is_on_one_sheet() {
        assert_eq!(sets(&[], &["fused", "unfused"]), [[""; 0]]);
        let peers = ["a", "b", "c", "d", "e", "unfused"];
        let expected: [&[&str]; 3] = [&[], &["a", "b", "c", "d"], &["e"]];
        assert_eq!(sets(&[], &peers), expected);
        assert_eq!(sets(&[], &["a"]), [["a"]]);
    }

    #[test]
    fn rows_that_are_asked_for_are_the_only_ones() {
        assert_eq!(sets(&["e", "a"], &["a", "b", "e"]), [["e", "a"]]);
        assert_eq!(sets(&["e", "x"], &["a", "b", "e"]), [["e", "x"]], "the second is drawn empty");
        assert!(sets(&["x"], &["a", "b"]).is_empty());
    }
}

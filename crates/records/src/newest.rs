//! Which of several measurements of a cell counts.

use std::collections::HashMap;

use crate::grid::Cell;
use crate::record::Record;

/// What is measured: workload, backend, device, cache, dtype and method; adapters; seq_len, batch and rank.
pub(crate) type Key = ([String; 6], usize, Cell);

pub(crate) fn key(record: &Record) -> Key {
    let Record { workload, backend, device, cache, dtype, method, .. } = record;
    ([workload, backend, device, cache, dtype, method].map(String::clone), record.adapters, record.cell())
}

/// The newest record of each (workload, backend, device, cache, dtype, method, adapters, seq_len, batch,
/// rank), across runs, in the order in which these were first seen. Of two from the same instant the later in
/// `records` counts.
#[must_use]
pub fn newest(records: Vec<Record>) -> Vec<Record> {
    let mut kept: Vec<Record> = Vec::with_capacity(records.len());
    let mut index = HashMap::new();
    for record in records {
        let at = *index.entry(key(&record)).or_insert(kept.len());
        match kept.get_mut(at) {
            None => kept.push(record),
            Some(other) if record.measured_at >= other.measured_at => *other = record,
            Some(_) => {}
        }
    }
    kept
}

//! Which of several measurements of a cell counts.

use std::collections::HashMap;

use crate::Record;

/// The newest record of each (workload, backend, device, cache, method, seq_len, batch, rank), across runs,
/// in the order in which these were first seen. Of two from the same instant the later in `records` counts.
#[must_use]
pub fn newest(records: Vec<Record>) -> Vec<Record> {
    let mut kept: Vec<Record> = Vec::with_capacity(records.len());
    let mut index = HashMap::new();
    for record in records {
        let Record { workload, backend, device, cache, method, .. } = record.clone();
        let key = ([workload, backend, device, cache, method], record.cell());
        match index.get(&key) {
            None => {
                index.insert(key, kept.len());
                kept.push(record);
            }
            Some(&at) if record.measured_at >= kept[at].measured_at => kept[at] = record,
            Some(_) => {}
        }
    }
    kept
}

//! Running an entry everywhere.

use fused_lora_kernels::instructions::{SM90_INSTRUCTIONS, Sm90Instruction};

use super::{device, strict, swizzle::Swizzle};
use crate::launch::{Outcome, assert_words};

/// A matrix of f16 that a launch has a map of, and the box.
#[derive(Clone)]
pub(crate) struct Matrix {
    /// Its elements, `pitch` in each row, in memory of its own; else it is the output.
    pub elements: Option<Vec<u16>>,
    pub rows: u32,
    pub columns: u32,
    /// Elements from row to row.
    pub pitch: u32,
    pub box_rows: u32,
    pub box_columns: u32,
    pub swizzle: Swizzle,
}

impl Matrix {
    /// Bytes of the box.
    pub(crate) fn box_bytes(&self) -> u32 {
        2 * self.box_rows * self.box_columns
    }
}

/// The row of the table.
pub(crate) fn entry(name: &str) -> &'static Sm90Instruction {
    let found = SM90_INSTRUCTIONS.iter().find(|row| row.name.strip_prefix("instruction_") == Some(name));
    found.unwrap_or_else(|| panic!("the table has no instruction {name}"))
}

/// CTAs that are launched: a cluster more than there are items.
pub(crate) fn grid(entry: &Sm90Instruction, items: usize) -> u32 {
    items as u32 + entry.cluster
}

/// Runs `name` on `[items, input_words]` under several schedules of the strict machine, and on the GPU if there is
/// one of compute capability 9.0.
#[track_caller]
pub(crate) fn run(name: &str, items: usize, input: &[u32], matrix: Option<&Matrix>) -> Vec<Outcome> {
    let entry = entry(name);
    assert_eq!(input.len(), items * entry.input_words as usize, "{name} wants another number of words");
    assert!((items as u32).is_multiple_of(entry.cluster), "{name} wants whole clusters");
    assert_eq!(matrix.is_some(), entry.tensor_map, "{name} and its matrix");
    let mut outcomes = strict::run(entry, items, input, matrix);
    match device::find() {
        Ok(device) => outcomes.push(device.run(entry, items, input, matrix)),
        Err(why) => println!("{name}: no device: compared on simt alone ({why})"),
    }
    outcomes
}

/// Runs `name`, which has no map, and holds each output to `expected`.
#[track_caller]
pub(crate) fn check(name: &str, items: usize, input: &[u32], expected: &[u32]) {
    for outcome in run(name, items, input, None) {
        assert_words(name, &outcome, expected, |found, expected| found == expected);
    }
}

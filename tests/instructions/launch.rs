//! Running an entry everywhere.

use fused_lora_kernels::instructions::{INSTRUCTIONS, Instruction};

use crate::{device, strict};

/// What a run left in memory.
pub(crate) struct Outcome {
    /// Who ran it, for messages.
    pub by: String,
    /// Whether it was a GPU.
    pub on_device: bool,
    /// `[items, output_words]`.
    pub output: Vec<u32>,
    /// The words that all items share.
    pub counters: Vec<u32>,
    /// The elements of the map's matrix, where there is one in memory of its own.
    pub matrix: Vec<u16>,
}

/// The row of the table.
pub(crate) fn entry(name: &str) -> &'static Instruction {
    let found = INSTRUCTIONS.iter().find(|entry| entry.name.strip_prefix("instruction_") == Some(name));
    found.unwrap_or_else(|| panic!("the table has no instruction {name}"))
}

/// CTAs that are launched: one more than there are items.
pub(crate) fn grid(items: usize) -> u32 {
    items as u32 + 1
}

/// Runs `name` on `[items, input_words]` under several schedules of the strict machine, and on the GPU if there is
/// one.
#[track_caller]
pub(crate) fn run(name: &str, items: usize, input: &[u32]) -> Vec<Outcome> {
    let entry = entry(name);
    assert_eq!(input.len(), items * entry.input_words as usize, "{name} wants another number of words");
    let mut outcomes = strict::run(entry, items, input);
    match device::find() {
        Ok(device) => outcomes.push(device.run(entry, items, input)),
        Err(why) => println!("{name}: no device: compared on simt alone ({why})"),
    }
    outcomes
}

/// Runs `name` and holds each output to `expected`.
#[track_caller]
pub(crate) fn check(name: &str, items: usize, input: &[u32], expected: &[u32]) {
    for outcome in run(name, items, input) {
        assert_words(name, &outcome, expected, |found, expected| found == expected);
    }
}

/// Holds all words of an output to `expected`, under a rule of what is the same.
#[track_caller]
pub(crate) fn assert_words(name: &str, outcome: &Outcome, expected: &[u32], same: impl Fn(u32, u32) -> bool) {
    assert_eq!(outcome.output.len(), expected.len(), "{name} gives another number of words");
    for (at, (&found, &expected)) in outcome.output.iter().zip(expected).enumerate() {
        assert!(
            same(found, expected),
            "{name} by {}: word {at} is {found:#010x}, not {expected:#010x}",
            outcome.by
        );
    }
}

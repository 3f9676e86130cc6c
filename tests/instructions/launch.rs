//! Running an entry everywhere.

use crate::{
    device,
    entry::{Matrix, Outcome, entry},
    strict,
};

/// Runs `name` on `[items, input_words]` under several schedules of the strict machine, and on the GPU if
/// there is one that has it.
#[track_caller]
pub(crate) fn run(name: &str, items: usize, input: &[u32]) -> Vec<Outcome> {
    run_with(name, items, input, None)
}

/// The same for an entry that wants a map, with its matrix.
#[track_caller]
pub(crate) fn run_with(name: &str, items: usize, input: &[u32], matrix: Option<&Matrix>) -> Vec<Outcome> {
    let entry = entry(name);
    assert_eq!(input.len(), items * entry.input_words as usize, "{name} wants another number of words");
    assert!((items as u32).is_multiple_of(entry.cluster), "{name} wants whole clusters");
    assert_eq!(matrix.is_some(), entry.tensor_map, "{name} and its matrix");
    let mut outcomes = strict::run(&entry, items, input, matrix);
    match device::find(&entry) {
        Ok((device, module)) => outcomes.push(device.run(module, &entry, items, input, matrix)),
        Err(why) => println!("{name}: no device: compared on simt alone ({why})"),
    }
    outcomes
}

/// Runs `name`, which has no map, and holds each output to `expected`.
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

//! The strict machine.

use fused_lora_kernels::{
    Global,
    instructions::{Instruction, Params},
};
use fused_lora_simt::{Machine, Report, Schedule, Stats};

use fused_lora_tests::shipped;

use crate::launch::{Outcome, grid};

/// Under schedules with the extreme ones among them; fewer where there are many items, which are then there for
/// their values alone.
#[track_caller]
pub(crate) fn run(entry: &Instruction, items: usize, input: &[u32]) -> Vec<Outcome> {
    let schedules = Schedule::standard(if items <= 32 { 12 } else { 2 });
    let run = |schedule: &Schedule| {
        let (outcome, _) =
            run_under(entry, items, input, schedule).unwrap_or_else(|report| panic!("{report}"));
        outcome
    };
    schedules.iter().map(run).collect()
}

/// Under one schedule, seeded faults and all.
pub(crate) fn run_under(
    entry: &Instruction,
    items: usize,
    input: &[u32],
    schedule: &Schedule,
) -> Result<(Outcome, Stats), Report> {
    let (words, counters) = (items * entry.output_words as usize, entry.counters as usize);
    let mut machine = Machine::new();
    let from = machine.input(input);
    let to = machine.buffer(4 * (words + counters));
    machine.name(from, "input");
    machine.name(to, "output");
    machine.write(to + 4 * words as u64, &vec![0u32; counters])?;
    let params =
        Params { input: Global::from_address(from), output: Global::from_address(to), count: items as u32 };
    let launch = shipped::launch(entry.name, &params, [grid(items), entry.threads, entry.shared_bytes]);
    let stats = machine.run(&[launch], schedule)?;
    let outcome = Outcome {
        by: format!("simt, seed {}, {:?}", schedule.seed, schedule.asynchrony),
        on_device: false,
        output: machine.read(to, words)?,
        counters: machine.read(to + 4 * words as u64, counters)?,
        matrix: Vec::new(),
    };
    Ok((outcome, stats))
}

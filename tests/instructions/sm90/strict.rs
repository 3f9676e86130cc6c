//! The strict machine.

use fused_lora_kernels::{
    Global,
    instructions::{Params, Sm90Instruction, Sm90Params},
    tensor_map::TensorMap,
};
use fused_lora_simt::{self as simt, Machine, Report, Schedule, Stats};

use super::{
    launch::{Matrix, grid},
    swizzle::Swizzle,
};
use fused_lora_tests::shipped;

use crate::launch::Outcome;

/// Under schedules with the extreme ones among them.
#[track_caller]
pub(crate) fn run(
    entry: &Sm90Instruction,
    items: usize,
    input: &[u32],
    matrix: Option<&Matrix>,
) -> Vec<Outcome> {
    let run = |schedule: &Schedule| {
        let (outcome, _) =
            run_under(entry, items, input, matrix, schedule).unwrap_or_else(|report| panic!("{report}"));
        outcome
    };
    Schedule::standard(8).iter().map(run).collect()
}

/// Under one schedule, seeded faults and all.
pub(crate) fn run_under(
    entry: &Sm90Instruction,
    items: usize,
    input: &[u32],
    matrix: Option<&Matrix>,
    schedule: &Schedule,
) -> Result<(Outcome, Stats), Report> {
    let words = items * entry.output_words as usize;
    let mut machine = Machine::new();
    let mut from = machine.input(input);
    machine.name(from, "input");
    let outputs: Vec<u64> = (0..entry.launches).map(|_| machine.buffer(4 * words)).collect();
    let to = *outputs.last().expect("a launch");
    machine.name(to, "output");
    let elements = matrix.and_then(|matrix| matrix.elements.as_deref());
    let own = elements.map(|elements| machine.buffer(2 * elements.len()));
    if let (Some(own), Some(elements)) = (own, elements) {
        machine.name(own, "matrix");
        machine.write(own, elements)?;
    }
    let map = matrix.map_or(TensorMap::default(), |matrix| map(matrix, own.unwrap_or(to)));

    let mut launches = Vec::new();
    for (number, &to) in outputs.iter().enumerate() {
        let params = Params {
            input: Global::from_address(from),
            output: Global::from_address(to),
            count: items as u32,
        };
        let params = Sm90Params { map, params };
        let shape = [grid(entry, items), entry.threads, entry.shared_bytes];
        let launch = shipped::launch(entry.name, &params, shape);
        let launch = launch.cluster(entry.cluster).registers(entry.max_registers.next_multiple_of(8));
        launches.push(if number == 0 { launch } else { launch.programmatic() });
        from = to;
    }
    let stats = machine.run(&launches, schedule)?;
    let outcome = Outcome {
        by: format!("simt, seed {}, {:?}", schedule.seed, schedule.asynchrony),
        on_device: false,
        output: machine.read(to, words)?,
        counters: Vec::new(),
        matrix: match (own, elements) {
            (Some(own), Some(elements)) => machine.read(own, elements.len())?,
            _ => Vec::new(),
        },
    };
    Ok((outcome, stats))
}

/// The map of a matrix at `address`.
fn map(matrix: &Matrix, address: u64) -> TensorMap {
    let map = simt::TensorMap {
        address,
        dims: [matrix.columns, matrix.rows].map(u64::from),
        stride: 2 * u64::from(matrix.pitch),
        box_dims: [matrix.box_columns, matrix.box_rows],
        swizzle: match matrix.swizzle {
            Swizzle::None => simt::Swizzle::None,
            Swizzle::B32 => simt::Swizzle::B32,
            Swizzle::B64 => simt::Swizzle::B64,
            Swizzle::B128 => simt::Swizzle::B128,
        },
    };
    TensorMap(map.encode())
}

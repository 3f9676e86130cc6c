//! The strict machine.

use fused_lora_kernels::{
    Global,
    instructions::{Params, Sm90Params},
    tensor_map::TensorMap,
};
use fused_lora_simt::{self as simt, Machine, Report, Schedule, Stats};

use fused_lora_tests::shipped;

use crate::{
    entry::{Entry, Matrix, Outcome, grid},
    sm90::swizzle::Swizzle,
};

/// Under schedules with the extreme ones among them; fewer where there are many items, which are then there
/// for their values alone.
#[track_caller]
pub(crate) fn run(entry: &Entry, items: usize, input: &[u32], matrix: Option<&Matrix>) -> Vec<Outcome> {
    let schedules = Schedule::standard(match items {
        _ if entry.is_sm90 => 8,
        0..=32 => 12,
        _ => 2,
    });
    let run = |schedule: &Schedule| {
        let run = run_under(entry, items, input, matrix, schedule);
        run.unwrap_or_else(|report| panic!("{report}")).0
    };
    schedules.iter().map(run).collect()
}

/// Under one schedule, seeded faults and all.
pub(crate) fn run_under(
    entry: &Entry,
    items: usize,
    input: &[u32],
    matrix: Option<&Matrix>,
    schedule: &Schedule,
) -> Result<(Outcome, Stats), Report> {
    let (words, counters) = (items * entry.output_words as usize, entry.counters as usize);
    let mut machine = Machine::new();
    let mut from = machine.input(input);
    machine.name(from, "input");
    let outputs: Vec<u64> = (0..entry.launches).map(|_| machine.buffer(4 * (words + counters))).collect();
    let to = *outputs.last().expect("a launch");
    machine.name(to, "output");
    machine.write(to + 4 * words as u64, &vec![0u32; counters])?;
    let elements = matrix.and_then(|matrix| matrix.elements.as_deref());
    let own = elements.map(|elements| machine.buffer(2 * elements.len()));
    if let (Some(own), Some(elements)) = (own, elements) {
        machine.name(own, "matrix");
        machine.write(own, elements)?;
    }
    let map = matrix.map_or(TensorMap::default(), |matrix| map(matrix, own.unwrap_or(to)));

    let shape = [grid(entry, items), entry.threads, entry.shared_bytes];
    let mut launches = Vec::new();
    for (number, &to) in outputs.iter().enumerate() {
        let params = Params {
            input: Global::from_address(from),
            output: Global::from_address(to),
            count: items as u32,
        };
        let launch = if entry.is_sm90 {
            let launch = shipped::launch(entry.name, &Sm90Params { map, params }, shape);
            launch.cluster(entry.cluster).registers(entry.max_registers.next_multiple_of(8))
        } else {
            shipped::launch(entry.name, &params, shape)
        };
        launches.push(if number == 0 { launch } else { launch.programmatic() });
        from = to;
    }
    let stats = machine.run(&launches, schedule)?;
    let outcome = Outcome {
        by: format!("simt, seed {}, {:?}", schedule.seed, schedule.asynchrony),
        on_device: false,
        output: machine.read(to, words)?,
        counters: machine.read(to + 4 * words as u64, counters)?,
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

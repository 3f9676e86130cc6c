//! What of the shipped PTX is executed: every instruction of every entry, every backward branch taken, every
//! wait for an mbarrier in both parities, every barrier of a ring through 2 · stages phases.
//!
//! By all groups of tests together. What they leave out stands in [`EXCEPTIONS`] with its reason.

use std::collections::BTreeMap;

use fused_lora_kernels::{
    layer_table::LAYER_KERNELS,
    sm90_tile::MAX_SLICES,
    table::{Kernel, Operation, Target},
    tile::ATTENTION_BLOCK,
};
use fused_lora_simt::{
    Schedule,
    ptx::{Covered, Missing},
};

use fused_lora_tests::{functions::function_at, shipped};

use crate::{
    attention,
    case::{AdapterCase, Case, in_cluster},
    cost, epilogues, grids, layer_norm, planned, random, rings, segments, strides,
    suite::{for_each_operation, hold, kernels},
    tails,
    tried::{Group, Tried},
    unfused, values,
};

/// All groups of tests.
const GROUPS: &[&Group] = &[
    &long::GROUP,
    &tails::sizes::GROUP,
    &tails::ranks::GROUP,
    &strides::strides::GROUP,
    &epilogues::epilogues::GROUP,
    &segments::tables::GROUP,
    &segments::many_segments::GROUP,
    &segments::one_segment_is_uniform::GROUP,
    &rings::around::GROUP,
    &planned::at_true_k::GROUP,
    &grids::groups::GROUP,
    &grids::grids::GROUP,
    &values::nan_in_x::GROUP,
    &values::infinity_in_x::GROUP,
    &values::h_overflows::GROUP,
    &values::y_overflows::GROUP,
    &values::infinite_h_and_a_column_range::GROUP,
    &unfused::roads::GROUP,
    &cost::costs::GROUP,
    &random::random::GROUP,
];

/// Instructions that nothing executes, jumps back that nothing takes, or parities that nothing waits for.
struct Exception {
    /// How the names of its entries begin.
    entries: &'static str,
    /// Folder, file and function.
    place: &'static str,
    /// How many, at most, in an entry.
    most: usize,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        entries: "",
        place: "sm80/segments.rs next_part",
        most: 4,
        reason: "jumps back where no segment is left: who asks for the part of a work item of h finds it",
    },
    Exception {
        entries: "fused_128x256",
        place: "sm80/mainloop.rs fetch_late_h",
        most: 1,
        reason: "of two steps, the compiler makes a first one and a loop that turns once",
    },
    Exception {
        entries: "sm90_fused_cooperative",
        place: "sm90/own_h.rs release",
        most: 1,
        reason: "a jump for lanes that arrive nowhere, behind a test that sent them elsewhere",
    },
    Exception {
        entries: "sm90_fused_cooperative_128x256_k16",
        place: "sm90/sliced_h.rs release",
        most: 1,
        reason: "as in own_h",
    },
    Exception {
        entries: "sm90_fused_cooperative_128x256_k16",
        place: "sm90/producer.rs Producer::survey",
        most: 2,
        reason: "further panels of an adapter: a row tile has one panel of h",
    },
    Exception {
        entries: "sm90_fused_cooperative_128x256_k16",
        place: "sm90/producer.rs Producer::with_own_h",
        most: 1,
        reason: "a second step of the expand: one panel of h has one",
    },
    Exception {
        entries: "sm90_gemm_split_k",
        place: "sm90/gemm_split_k.rs Partials::exchange",
        most: 1,
        reason: "the other parity of a wait: a launch has one tile for each cluster, and so one phase",
    },
];

/// The share of an entry that exceptions may be.
const MOST_EXCEPTIONS: f64 = 0.005;

/// Steps after which each barrier of a ring has gone through 2 · stages phases.
fn long_ring(kernel: &Kernel) -> Case {
    let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
    let steps = 2 * kernel.stages * kernel.stages;
    let (cluster, shares, tiles) = match kernel.operation {
        Operation::GemmSplitK => (Some(2), 2, 1),
        _ if in_cluster(kernel) => (Some(2), 1, 4),
        _ => (None, 1, 2),
    };
    let grid = if kernel.operation == Operation::Fused { 2 } else { cluster.unwrap_or(1) };
    let k = (steps * shares * kernel.block_k) as usize;
    let rank = if kernel.max_rank > 0 { kernel.h as usize - 3 } else { 37 };
    Case { cluster, grid: Some(grid), seed: 23, ..Case::new(m, tiles * n, k, rank) }
}

/// All columns of h that a cluster can have: several steps of the expand, in the first and in the second
/// round of the ring.
fn all_ranks(kernel: &Kernel) -> Case {
    let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
    let cluster = if kernel.slices_k() { MAX_SLICES } else { kernel.max_rank / kernel.h };
    let k = (kernel.stages * kernel.block_k) as usize;
    let case = Case::new(m, 2 * n * cluster as usize, k, kernel.max_rank as usize - 3);
    Case { cluster: Some(cluster), grid: Some(cluster), seed: 24, ..case }
}

/// Kernels with barriers: each of a ring goes round often enough. And what other groups leave out of large
/// tiles.
fn long(operation: Operation) {
    for (turn, kernel) in kernels(operation).enumerate() {
        let mut cases = vec![long_ring(kernel)];
        match operation {
            Operation::FusedCooperative => {
                cases.push(all_ranks(kernel));
                // The base alone has a K loop of its own.
                cases.push(Case { adapters: vec![AdapterCase::new(0)], ..long_ring(kernel) });
            }
            // CTAs that share h search the tables for their items.
            Operation::Fused => cases.push(Case { grid: Some(4), n: 8, ..grids::large_table(kernel) }),
            _ => {}
        }
        if kernel.target == Target::Sm90a && kernel.block_m * kernel.block_n > 128 * 128 {
            cases.extend(epilogues::cases(kernel));
            // Part of a chunk in each box of 64 columns.
            let n = (64..kernel.block_n as usize).step_by(64).map(|columns| columns + 3);
            let case = |n| Case { residual: true, pad_residual: 1, ..Case::new(9, n, 40, 0) };
            cases.extend(n.map(case));
        }
        let is_large = kernel.block_m * kernel.block_n > 128 * 128;
        if operation == Operation::FusedCooperative && is_large && !kernel.slices_k() {
            // Without a cluster the producer has a loop of its own, in which other groups wait too rarely.
            let n = kernel.block_n as usize;
            cases.push(Case { cluster: Some(1), grid: Some(1), n, ..long_ring(kernel) });
        }
        for case in cases {
            hold(kernel, &case, &[Schedule::random(turn as u64)]);
        }
        if operation == Operation::Gemm && in_cluster(kernel) {
            // A wait that mostly finds what it waits for turns in vain now and then: eight CTAs, many times.
            let short = Case { grid: Some(8), ..Case::new(8 * kernel.block_m as usize, 16, 40, 0) };
            hold(kernel, &short, &(0..10).map(Schedule::random).collect::<Vec<_>>());
        }
    }
}

/// What is missing of an entry, by function: whether one is vital that was never executed, and where they
/// are.
fn missing(instructions: &[Covered]) -> BTreeMap<String, (bool, Vec<String>)> {
    let mut by_function: BTreeMap<_, (bool, Vec<String>)> = BTreeMap::new();
    // Where the compiler names no line, it is that of the instruction before.
    let mut last = None;
    for instruction in instructions {
        let Covered { place, is_vital, missing, .. } = instruction;
        if let Some(function) = function_at(place.file, place.line) {
            let file = place.file.trim_start_matches("kernels/src/");
            last = Some(format!("{file} {}", function.name));
        }
        if let Some(missing) = missing {
            let (vital, places) = by_function.entry(last.clone().unwrap_or_default()).or_default();
            *vital |= *is_vital && *missing == Missing::Execution;
            places.push(format!("{missing:?} of {place}"));
        }
    }
    by_function
}

/// What is missing of an entry beyond the exceptions.
fn wrong(tried: &Tried, name: &str) -> Vec<String> {
    let (module, entry) = shipped::entry(name);
    let instructions = module.covered(entry, &tried.coverage);
    let (mut wrong, mut excepted) = (Vec::new(), 0);
    for (function, (is_vital, places)) in missing(&instructions) {
        let is_it = |exception: &&Exception| {
            name.starts_with(exception.entries)
                && function == exception.place
                && places.len() <= exception.most
        };
        match EXCEPTIONS.iter().find(is_it) {
            Some(exception) if !is_vital => {
                println!("{name}: {} in {function}: {}", places.len(), exception.reason);
                excepted += places.len();
            }
            _ => wrong.push(format!("{name}, {function}, vital {is_vital}:\n    {}", places.join("\n    "))),
        }
    }
    println!("{name}: {} instructions, {excepted} exceptions", instructions.len());
    if excepted as f64 > MOST_EXCEPTIONS * instructions.len() as f64 {
        wrong.push(format!("{name}: {excepted} of {} instructions are exceptions", instructions.len()));
    }
    wrong
}

fn all_is_tried(operation: Operation) {
    let mut tried = Tried::default();
    for group in GROUPS.iter().filter(|group| group.operations.contains(&operation)) {
        if let Some(result) = group.run(operation).get() {
            tried.add(result);
        }
    }
    let mut all_wrong = Vec::new();
    for kernel in kernels(operation) {
        all_wrong.extend(wrong(&tried, kernel.name));
        if kernel.target == Target::Sm90a {
            let (needed, ring) = (2 * kernel.stages, 2 * kernel.stages as usize);
            let phases = &tried.phases[kernel.name];
            let often = phases.values().filter(|&&phases| phases >= needed).count();
            if often < ring {
                all_wrong
                    .push(format!("{}: {often} of {ring} barriers go through {needed} phases", kernel.name));
            }
        }
    }
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
}

for_each_operation!(long: gemm split_k fused recompute cooperative shrink expand);
for_each_operation!(all_is_tried: gemm split_k fused recompute cooperative shrink expand);

#[test]
fn all_of_a_layer_is_tried() {
    let mut all_wrong = Vec::new();
    for kernel in LAYER_KERNELS {
        let mut tried = Tried::default();
        for schedule in Schedule::standard(3) {
            let schedule = std::slice::from_ref(&schedule);
            if kernel.head_dim == 0 {
                let unaligned = layer_norm::Case { pad_x: 1, shift_y: 1, ..layer_norm::Case::new(3, 77) };
                let wide =
                    layer_norm::Case { pad_x: 3, pad_y: 5, shift_y: 1, ..layer_norm::Case::new(5, 3001) };
                let narrow = layer_norm::Case { columns: 1111, ..wide.clone() };
                let cases = [5, 64, 1000, 3000].map(|columns| layer_norm::Case::new(9, columns));
                let cases = cases.into_iter().chain([unaligned, wide, narrow]);
                for case in cases {
                    tried.add_run(kernel.name, &layer_norm::hold(&case, schedule));
                }
            } else {
                let (block, head_dim) = (ATTENTION_BLOCK as usize, kernel.head_dim as usize);
                let case = |seq_len, head_dim| attention::Case::new(2, seq_len, 2, head_dim);
                let unaligned = attention::Case { pad_y: 3, shift_y: 1, ..case(block, head_dim - 8) };
                // Products are made key by key where a v is not finite.
                let width = 2 * head_dim;
                let planted = vec![(20, 2 * width + 1, f32::INFINITY), (block + 3, 2 * width, f32::NAN)];
                let infinite = attention::Case { planted, ..case(2 * block + 9, head_dim) };
                for case in [case(3 * block + 5, head_dim), unaligned, infinite] {
                    tried.add_run(kernel.name, &attention::hold(&case, schedule));
                }
            }
        }
        all_wrong.extend(wrong(&tried, kernel.name));
    }
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
}

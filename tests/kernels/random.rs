//! Random cases of every kernel.

use std::ops::Range;

use fused_lora::Activation;
use fused_lora_kernels::table::{Kernel, Operation};
use fused_lora_simt::Schedule;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngSeed, TestRunner},
};

use crate::{
    case::{AdapterCase, Case, Rows, all_kernels},
    suite::{enlarged, hold, kernels, takes},
};

/// Ranks around the granule, and a few large ones.
fn rank(most: usize) -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 0..=20usize, 0..=70usize, 60..=280usize].prop_map(move |rank| rank.min(most))
}

fn adapter(n: usize, most: usize) -> impl Strategy<Value = AdapterCase> {
    let range = (0..n, 1..=n).prop_map(move |(first, count)| Some(first..n.min(first + count)));
    let columns = prop_oneof![2 => Just(None), 1 => range];
    (rank(most), -2.0..2.0f32, columns).prop_map(|(rank, scale, columns)| AdapterCase {
        rank,
        scale,
        columns,
    })
}

/// Segments in the order of their rows, some rows without one. `cuts` holds lengths, in rows, of segments and
/// of holes before them.
fn segments(m: usize, cuts: &[(usize, usize, usize)], adapters: usize) -> Vec<(Range<usize>, usize)> {
    let mut first = 0;
    let mut rows = Vec::new();
    for &(hole, length, adapter) in cuts {
        let begin = first + hole;
        let end = m.min(begin + length);
        if begin < end {
            rows.push((begin..end, adapter % adapters));
        }
        first = end.max(begin);
    }
    rows
}

/// Cases that a kernel takes.
fn case(kernel: &'static Kernel) -> BoxedStrategy<Case> {
    let (block_m, block_n) = (kernel.block_m as usize, kernel.block_n as usize);
    let shortest = if kernel.operation == Operation::GemmSplitK { 65 } else { 1 };
    let most = match kernel.operation {
        Operation::FusedRecompute => kernel.h as usize,
        // Of several in a row tile the sum counts.
        Operation::FusedCooperative => kernel.max_rank as usize / 2,
        _ => usize::MAX,
    };
    let unit = if kernel.aligned { 8 } else { 1 };
    let sizes = (
        1..=2 * block_m + 20,
        1..=2 * block_n + 20,
        (shortest..=200usize).prop_map(move |k| k.div_ceil(unit) * unit),
    );
    sizes
        .prop_flat_map(move |(m, n, k)| {
            let adapters = vec(adapter(n, most), 1..=4);
            let cuts = prop_oneof![
                1 => Just(None),
                2 => vec((0..30usize, 1..=block_m + 9, 0..4usize), 0..7).prop_map(Some),
            ];
            let pads = (0..4usize, 0..4usize, 0..10usize, 0..10usize, 0..3usize, 0..3usize);
            let activation = prop_oneof![Just(None), Just(Some(Activation::GeluTanh))];
            let epilogue = (any::<bool>(), activation, 0..3u8, any::<bool>(), 0..3usize);
            let grid = prop_oneof![Just(None), (1..12u32).prop_map(Some)];
            let cluster = prop_oneof![Just(None), (0..4u32).prop_map(|log| Some(1 << log))];
            (adapters, cuts, pads, epilogue, (grid, cluster), any::<u64>()).prop_map(
                move |(adapters, cuts, pads, epilogue, (grid, cluster), seed)| {
                    let (bias, activation, residual, second_residual, shift_epilogue) = epilogue;
                    let (pad_x, shift_x, pad_y, shift_y, pad_operands, pad_residual) = pads;
                    let rows =
                        cuts.map_or(Rows::Uniform, |cuts| Rows::Table(segments(m, &cuts, adapters.len())));
                    Case {
                        adapters,
                        rows,
                        pad_x: pad_x * unit,
                        shift_x: shift_x * unit,
                        pad_y,
                        shift_y,
                        pad_operands: 8 * pad_operands,
                        bias,
                        activation,
                        residual: residual == 1,
                        in_place: residual == 2,
                        second_residual,
                        pad_residual,
                        shift_epilogue,
                        seed,
                        grid,
                        cluster,
                        ..Case::new(m, n, k, 0)
                    }
                    .adapted_to(kernel)
                },
            )
        })
        .prop_filter("not for this kernel", |case| takes(kernel, case))
        .boxed()
}

/// Two cases of each kernel of an operation, each under its own schedule.
fn random(operation: Operation) {
    for (i, kernel) in kernels(operation).enumerate() {
        let config = Config {
            cases: enlarged(2) as u32,
            rng_seed: RngSeed::Fixed(16 + i as u64),
            failure_persistence: None,
            max_shrink_iters: 60,
            ..Config::default()
        };
        let mut runner = TestRunner::new(config);
        let input = (case(kernel), any::<u64>());
        let result = runner.run(&input, |(case, seed)| {
            hold(kernel, &case, &[Schedule::random(seed)]);
            Ok(())
        });
        if let Err(error) = result {
            panic!("{}: {error}", kernel.name);
        }
    }
}

crate::suite::for_each_operation!(random: gemm split_k fused recompute cooperative shrink expand);

#[test]
fn every_kernel_has_random_cases() {
    let mut runner = TestRunner::deterministic();
    for kernel in all_kernels() {
        let tree = case(kernel).new_tree(&mut runner).expect("not all are filtered out");
        assert!(takes(kernel, &proptest::strategy::ValueTree::current(&tree)));
    }
}

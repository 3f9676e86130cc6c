//! How many `mma` a launch executes: cost follows the ranks that are present.

use std::ops::Range;

use fused_lora_kernels::table::{Kernel, Operation};

use crate::{
    case::{AdapterCase, Case, Rows},
    suite::{for_each_operation, hold, kernels, schedules, takes},
};

/// Rows and columns of y of one `mma`; its K is the granule of ranks.
const MMA_M: usize = 16;
const MMA_N: usize = 8;
const MMA_K: usize = 16;

/// The segments that have an adapter, with their rows.
fn segments(case: &Case) -> Vec<(Range<usize>, usize)> {
    let all = match &case.rows {
        Rows::Uniform => vec![(0..case.m, 0)],
        Rows::Table(rows) => rows.clone(),
    };
    all.into_iter().filter(|(_, adapter)| case.adapters[*adapter].rank > 0).collect()
}

/// What the tiles' arithmetic predicts.
fn predicted(kernel: &Kernel, case: &Case) -> u64 {
    let (block_m, block_n) = (kernel.block_m as usize, kernel.block_n as usize);
    let per_tile = block_m / MMA_M * (block_n / MMA_N);
    // `mma` steps along K: always whole slots.
    let base = case.k.div_ceil(kernel.block_k as usize) * (kernel.block_k as usize / MMA_K);
    let mut mma = 0;
    for first_row in (0..case.m).step_by(block_m) {
        let present: Vec<usize> = segments(case)
            .into_iter()
            .filter(|(rows, _)| rows.start < first_row + block_m && rows.end > first_row)
            .map(|(_, adapter)| adapter)
            .collect();
        // Of each adapter, the granules of its rank.
        let granules = |adapter: usize| case.adapters[adapter].rank.div_ceil(MMA_K);
        if matches!(kernel.operation, Operation::Fused | Operation::Shrink) {
            // The shrink multiplies the columns that there are, all rows of the tile.
            mma += present
                .iter()
                .map(|&i| block_m / MMA_M * (granules(i) * MMA_K / MMA_N) * base)
                .sum::<usize>();
        }
        if kernel.operation == Operation::Shrink {
            continue;
        }
        for first_column in (0..case.n).step_by(block_n) {
            if kernel.operation != Operation::Expand {
                mma += per_tile * base;
            }
            for &adapter in &present {
                let columns = case.columns(adapter);
                if columns.start >= first_column + block_n || columns.end <= first_column {
                    continue;
                }
                mma += match kernel.operation {
                    Operation::Gemm => 0,
                    // H columns of h, whatever the rank.
                    Operation::FusedRecompute => {
                        let h = kernel.h as usize;
                        block_m / MMA_M * (h / MMA_N) * base + per_tile * (h / MMA_K)
                    }
                    _ => per_tile * granules(adapter),
                };
            }
        }
    }
    mma as u64
}

fn costs(operation: Operation) {
    for kernel in kernels(operation) {
        let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
        let mut cases: Vec<_> = [0, 1, 10, 16, 17, 48, 250]
            .into_iter()
            .map(|rank| Case { grid: Some(2), ..Case::new(m + 1, n + 1, 40, rank) })
            .collect();
        let adapters = vec![
            AdapterCase::new(10),
            AdapterCase { columns: Some(n..n + 1), ..AdapterCase::new(13) },
            AdapterCase::new(250),
            AdapterCase::new(0),
        ];
        // The second of three row tiles has no adapter, the third one for one column tile.
        let table = Rows::Table(vec![(0..9, 0), (m..2 * m, 3), (2 * m..2 * m + 1, 1)]);
        cases.push(Case {
            adapters: adapters[..2].into(),
            rows: Rows::Table(vec![(3..4, 0)]),
            ..cases[0].clone()
        });
        cases.push(Case { adapters: adapters.clone(), rows: table, m: 2 * m + 2, ..cases[0].clone() });
        let several = Rows::Table(vec![(0..9, 0), (9..10, 2), (10..m, 1), (m..m + 1, 2)]);
        cases.push(Case { adapters, rows: several, ..cases[0].clone() });
        for case in cases.iter().filter(|case| takes(kernel, case)) {
            let (_, _, stats) = hold(kernel, case, &schedules(0, 1)[..1]);
            assert_eq!(stats.mma, predicted(kernel, case), "{}: {case:?}", kernel.name);
        }
    }
}

/// r = 0 costs what the base costs: the same products, no more copies.
#[test]
fn rank_zero_is_free() {
    let of = |operation| {
        move |base: &Kernel| {
            let tiles = |k: &Kernel| (k.block_m, k.block_n, k.aligned);
            kernels(operation).filter(|k| tiles(k) == tiles(base)).collect::<Vec<_>>()
        }
    };
    for base in kernels(Operation::Gemm) {
        let others = [of(Operation::Fused)(base), of(Operation::FusedRecompute)(base)].concat();
        assert!(!others.is_empty(), "{} stands alone", base.name);
        let case = Case::new(base.block_m as usize + 1, base.block_n as usize + 1, 104, 0);
        let run = |kernel| hold(kernel, &case, &schedules(0, 1)[..1]);
        let (machine, setup, expected) = run(base);
        for kernel in others {
            let (other, fused, stats) = run(kernel);
            assert_eq!(stats.mma, expected.mma, "{}", kernel.name);
            assert_eq!(stats.cp_async_bytes, expected.cp_async_bytes, "{}", kernel.name);
            assert_eq!(fused.y_bits(&other), setup.y_bits(&machine), "{}", kernel.name);
        }
    }
}

for_each_operation!(costs: costs_of_gemm Gemm, costs_of_fused Fused, costs_of_recompute FusedRecompute,
    costs_of_shrink Shrink, costs_of_expand Expand);

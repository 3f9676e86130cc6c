//! How many products a launch executes: cost follows the ranks that are present.

use fused_lora_kernels::table::{Kernel, Operation, Target};
use fused_lora_simt::Stats;

use crate::{
    case::{AdapterCase, Case, Rows},
    suite::{for_each_operation, hold, kernels, schedules, takes},
};

/// Rows and columns of y of one `mma`; its K, and that of one `wgmma`, is the granule of ranks.
const MMA_M: usize = 16;
const MMA_N: usize = 8;
const MMA_K: usize = 16;
/// Rows of y of one `wgmma`, whose N is that of the tile.
const WGMMA_M: usize = 64;

/// `mma` and `wgmma` that a launch executed.
fn executed(stats: &Stats) -> [u64; 2] {
    [stats.mma, stats.wgmma]
}

/// What the tiles' arithmetic predicts.
fn predicted(kernel: &Kernel, case: &Case) -> [u64; 2] {
    match kernel.target {
        Target::Sm80 => [predicted_mma(kernel, case), 0],
        Target::Sm90a => [0, predicted_wgmma(kernel, case)],
    }
}

fn predicted_mma(kernel: &Kernel, case: &Case) -> u64 {
    let (block_m, block_n) = (kernel.block_m as usize, kernel.block_n as usize);
    let per_tile = block_m / MMA_M * (block_n / MMA_N);
    // `mma` steps along K: always whole slots.
    let base = case.k.div_ceil(kernel.block_k as usize) * (kernel.block_k as usize / MMA_K);
    // Of each adapter, the granules of its rank.
    let granules = |adapter: usize| case.adapters[adapter].rank.div_ceil(MMA_K);
    let mut mma = 0;
    for present in case.row_tile_adapters(kernel.block_m) {
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

/// Of the cooperative kernel, h costs columns of the base's products, and in the last steps, where A goes
/// ahead of W, products of its own; where a cluster shares the steps of K, these once a cluster.
fn predicted_wgmma(kernel: &Kernel, case: &Case) -> u64 {
    let Kernel { block_n, block_k, h_columns, .. } = *kernel;
    let warpgroups = kernel.block_m as usize / WGMMA_M;
    let cooperative = kernel.operation == Operation::FusedCooperative;
    let slots = case.k.div_ceil(block_k as usize).max(if cooperative { 2 } else { 1 });
    // Where A does not fit beside W, all of its products are its own.
    let one_operand = block_n + kernel.h <= 256;
    let late = if one_operand { (kernel.stages as usize - 1).min(slots - 1) } else { slots };
    let [base, late] = [slots, late].map(|slots| slots * (block_k as usize / MMA_K));
    let cluster = case.cluster_for(kernel);
    let mut column_tiles = (case.n as u32).div_ceil(block_n);
    if kernel.operation != Operation::GemmSplitK {
        // All CTAs of a cluster multiply, if there are columns for them or not.
        column_tiles = column_tiles.next_multiple_of(cluster);
    }
    let mut steps = 0;
    for present in case.row_tile_adapters(kernel.block_m) {
        steps += column_tiles as usize * base;
        if cooperative && !present.is_empty() {
            let shared = if kernel.slices_k() { cluster } else { 1 };
            steps += (column_tiles / shared) as usize * late;
        }
        for adapter in present {
            let rank16 = case.adapters[adapter].rank.next_multiple_of(MMA_K);
            if kernel.operation == Operation::Fused {
                steps += rank16.div_ceil(h_columns as usize) * base;
            }
            // All CTAs of a cluster multiply what one of them needs.
            let (columns, width) = (case.columns(adapter), (block_n * cluster) as usize);
            let touched = (columns.end.div_ceil(width) - columns.start / width) * cluster as usize;
            if !matches!(kernel.operation, Operation::Gemm | Operation::GemmSplitK) {
                steps += touched * (rank16 / MMA_K);
            }
        }
    }
    (warpgroups * steps) as u64
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
        let cases: Vec<_> = cases.into_iter().map(|case| case.adapted_to(kernel)).collect();
        for case in cases.iter().filter(|case| takes(kernel, case)) {
            let (_, _, stats) = hold(kernel, case, &schedules(0, 1)[..1]);
            assert_eq!(executed(&stats), predicted(kernel, case), "{}: {case:?}", kernel.name);
        }
    }
}

/// r = 0 costs what the base costs: the same products, no more copies.
#[test]
fn rank_zero_is_free() {
    let of = |operation| {
        move |base: &Kernel| {
            let tiles = |k: &Kernel| (k.target, k.block_m, k.block_n, k.aligned);
            kernels(operation).filter(|k| tiles(k) == tiles(base)).collect::<Vec<_>>()
        }
    };
    for base in kernels(Operation::Gemm) {
        let fused = [Operation::Fused, Operation::FusedRecompute, Operation::FusedCooperative];
        let others = fused.map(|operation| of(operation)(base)).concat();
        assert!(!others.is_empty() || base.target == Target::Sm90a, "{} stands alone", base.name);
        let case = Case::new(base.block_m as usize + 1, base.block_n as usize + 1, 104, 0);
        let run = |kernel| hold(kernel, &case, &schedules(0, 1)[..1]);
        let (machine, setup, expected) = run(base);
        for kernel in others {
            let (other, fused, stats) = run(kernel);
            assert_eq!(executed(&stats), executed(&expected), "{}", kernel.name);
            let copied = |stats: &Stats| [stats.cp_async_bytes, stats.bulk_bytes];
            assert_eq!(copied(&stats), copied(&expected), "{}", kernel.name);
            assert_eq!(fused.y_bits(&other), setup.y_bits(&machine), "{}", kernel.name);
        }
    }
}

for_each_operation!(costs: gemm split_k fused recompute cooperative shrink expand);

//! M, N and K below, at, just above one tile and across several; every rank.

use fused_lora_kernels::table::{Kernel, Operation};

use crate::{
    case::{AdapterCase, Case},
    suite::{for_each_operation, hold_all},
};

/// A rank that leaves padding, for kernels that hold few and for others.
fn some_rank(kernel: &Kernel) -> usize {
    if kernel.h > 0 { kernel.h as usize - 3 } else { 21 }
}

/// K from one element to a few steps, and tails on either side of a step, of an `mma`, and of 16 bytes. More
/// steps than a ring has slots, of any kernel, are in `rings.rs`.
const SOME_K: [usize; 14] = [1, 7, 8, 15, 24, 31, 32, 33, 40, 64, 71, 96, 104, 168];

fn sizes(operation: Operation) {
    hold_all(operation, 2, |kernel| {
        let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
        let rank = some_rank(kernel);
        let mut sizes = Vec::new();
        sizes.extend([1, 7, m - 1, m, m + 1, 2 * m + 9].map(|m| (m, 24, 40)));
        sizes.extend([1, 9, n - 1, n, n + 1, 2 * n + 3].map(|n| (17, n, 40)));
        sizes.extend(SOME_K.map(|k| (m / 2 + 3, n / 2 + 5, k)));
        sizes.extend([(1, 1, 1), (1, 1, 8), (m + 1, n + 1, 33), (2 * m - 1, 2 * n + 1, 136)]);
        sizes.into_iter().map(|(m, n, k)| Case { seed: 3, ..Case::new(m, n, k, rank) }).collect()
    });
}

fn ranks(operation: Operation) {
    hold_all(operation, 2, |kernel| {
        let (m, n) = (kernel.block_m as usize / 2 + 3, kernel.block_n as usize + 5);
        let mut cases = Vec::new();
        // K so short that h is always late, and so long that it may be there in time.
        for (i, rank) in [0, 1, 7, 10, 16, 17, 31, 32, 33, 100, 250].into_iter().enumerate() {
            cases.push(Case { seed: 4, ..Case::new(m, n, if i % 2 == 0 { 40 } else { 168 }, rank) });
        }
        cases.push(Case { seed: 5, grid: Some(1), ..Case::new(m, n, 168, 10) });
        cases.push(Case { seed: 5, grid: Some(1), ..Case::new(m, n, 136, 250) });
        // What a scale does: none, a large one, and one that makes much of h subnormal.
        for scale in [0.0, -3.5, 5e-5] {
            let adapters = vec![AdapterCase { scale, ..AdapterCase::new(some_rank(kernel)) }];
            cases.push(Case { adapters, ..Case::new(m, 40, 72, 0) });
        }
        cases
    });
}

for_each_operation!(sizes: gemm split_k fused recompute cooperative shrink expand);
for_each_operation!(ranks: fused recompute cooperative shrink expand);

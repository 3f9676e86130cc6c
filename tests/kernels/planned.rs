//! Every kernel that the planner picks for what is published ([`plans`](fused_lora_tests::plans)), at its
//! true K, in its true clusters.
//!
//! Rows and columns are cut down to one cluster with two tiles for each of its CTAs, with the largest of its
//! ranks, and one with the others; K is not.

use std::collections::BTreeSet;

use fused_lora_kernels::table::{Kernel, Operation};
use fused_lora_tests::plans::{Planned, planned};

use crate::{
    case::{Case, kernel},
    suite::{for_each_operation, hold, schedules},
};

/// One cluster with so many tiles for each of its CTAs.
fn case_of(planned: &Planned, kernel: &Kernel, tiles: usize) -> Case {
    let (m, tile) = (kernel.block_m as usize, kernel.block_n as usize);
    let (k, ctas) = (planned.k.max(8), planned.cluster as usize);
    let n = match kernel.operation {
        // A tile for the cluster.
        Operation::GemmSplitK => tile,
        _ => tiles * ctas * tile,
    };
    // Of a kernel that shares h, tiles of h and of y meet in two CTAs.
    let grid = if kernel.operation == Operation::Fused { 2 } else { planned.cluster };
    Case { seed: 22, grid: Some(grid), cluster: Some(planned.cluster), ..Case::new(m, n, k, planned.rank) }
}

fn at_true_k(operation: Operation) {
    let all = planned(operation);
    assert!(!all.is_empty(), "the planner picks no kernel for {operation:?}");
    for (turn, planned) in all.iter().enumerate() {
        let kernel = kernel(planned.name);
        let is_larger = |other: &Planned| {
            Planned { rank: planned.rank, ..*other } == *planned && other.rank > planned.rank
        };
        let tiles = if all.iter().any(is_larger) { 1 } else { 2 };
        hold(kernel, &case_of(planned, kernel, tiles), &schedules(turn, 2));
        println!("{planned:?}");
    }
    let distinct: BTreeSet<_> = all.iter().map(|p| (p.name, p.cluster, p.k)).collect();
    println!("{} of (entry, cluster, K), {} with their ranks", distinct.len(), all.len());
}

for_each_operation!(at_true_k: gemm split_k fused recompute cooperative shrink expand);

//! K of more steps than a ring has slots: within a tile every slot is filled, released, and filled again.
//!
//! A slot that is released wrongly shows in the second round, or never: in the first one all slots are empty.

use fused_lora_kernels::table::{Kernel, Operation};

use crate::{
    case::{Case, in_cluster},
    suite::{for_each_operation, hold, hold_all, kernels, schedules, takes},
};

/// Part of a tile. In each of `shares` shares of K the ring goes round twice and a step further; one share
/// has another step, which K does not fill.
fn two_rounds(kernel: &Kernel, shares: u32) -> Case {
    let steps = (2 * kernel.stages + 1) * shares + 1;
    let k = kernel.block_k * steps - 24;
    let (m, n) = (kernel.block_m as usize - 5, kernel.block_n as usize - 3);
    Case { seed: 21, ..Case::new(m, n, k as usize, kernel.h.max(19) as usize - 3) }
}

fn around(operation: Operation) {
    hold_all(operation, 1, |kernel| {
        let clusters: &[u32] = if kernel.clusters() { &[1, 2, 4] } else { &[1] };
        let case = |&cluster| Case { cluster: Some(cluster), ..two_rounds(kernel, 1).adapted_to(kernel) };
        clusters.iter().map(case).filter(|case| takes(kernel, case)).collect()
    });
}

/// Where the CTAs of a cluster share K, each has a ring of its own.
#[test]
fn around_in_split_k() {
    for kernel in kernels(Operation::GemmSplitK) {
        let clusters = [2, 4, 8].into_iter().filter(|cluster| 16 * cluster <= kernel.block_n);
        assert!(clusters.clone().count() >= 2, "{}", kernel.name);
        for (turn, cluster) in clusters.enumerate() {
            let case = Case { cluster: Some(cluster), ..two_rounds(kernel, cluster) };
            hold(kernel, &case, &schedules(3 * turn, 5));
        }
    }
}

/// Part of a tile and of its neighbour, further than the ring goes, under many schedules; large tiles under
/// few.
fn under_many_schedules(operation: Operation) {
    for kernel in kernels(operation) {
        let shares = if operation == Operation::GemmSplitK { 2 } else { 1 };
        let k = kernel.block_k * (kernel.stages + 1) * shares + 8;
        let (m, n) = (kernel.block_m as usize / 2 + 3, kernel.block_n as usize + 5);
        let cluster = in_cluster(kernel).then_some(2);
        let case = Case { cluster, seed: 22, ..Case::new(m, n, k as usize, kernel.h.max(19) as usize - 3) };
        let count = if kernel.block_m * kernel.block_n > 128 * 128 { 2 } else { 20 };
        hold(kernel, &case, &schedules(0, count));
    }
}

for_each_operation!(under_many_schedules: gemm split_k fused recompute cooperative shrink expand);
for_each_operation!(around: gemm fused recompute cooperative shrink);

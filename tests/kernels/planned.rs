//! Every kernel that the planner picks for the published grids, at its true K, in its true clusters.
//!
//! The cells are those of the benches and of `fused-lora estimate`. Rows and columns are cut down to one cluster with two
//! tiles for each of its CTAs at most, so that a run is short; K and the rank are not.

use std::collections::BTreeSet;

use fused_lora::{Problem, Strategy, cuda::Gpu};
use fused_lora_kernels::table::{Kernel, Operation};
use fused_lora_records::{Workload, grid};

use crate::{
    case::{Case, kernel},
    suite::{for_each_operation, hold, schedules},
};

/// The GPUs that the benches are meant for, by their data sheets.
const GPUS: [&str; 3] = ["h200", "a100", "l4"];
/// The most multiply-adds of a run for which each CTA gets a second tile.
const SHORT: usize = 1 << 27;

/// A launch, as far as its steps depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Planned {
    name: &'static str,
    cluster: u32,
    /// Of x and W; 0 for the expand, which does not read them.
    k: usize,
    /// 0 for the base product.
    rank: usize,
}

/// What all strategies launch for an operation, each once.
fn planned(operation: Operation) -> BTreeSet<Planned> {
    let mut all = BTreeSet::new();
    for gpu in GPUS.map(|name| Gpu::from_data_sheet(name).expect("it has a data sheet")) {
        for projection in Workload::LINEARS.iter().flat_map(Workload::projections) {
            for cell in grid() {
                let problem = Problem::new(cell.m(), projection.d_out, projection.d_in, cell.rank);
                for strategy in Strategy::ALL {
                    let plan = gpu.plan(&problem, strategy).expect("there is a kernel for it");
                    let launches = plan.launches().iter().filter(|l| l.kernel.operation == operation);
                    all.extend(launches.map(|launch| Planned {
                        name: launch.kernel.name,
                        cluster: launch.cluster,
                        k: if operation == Operation::Expand { 0 } else { problem.k },
                        rank: if is_base(operation) { 0 } else { problem.rank },
                    }));
                }
            }
        }
    }
    all
}

fn is_base(operation: Operation) -> bool {
    matches!(operation, Operation::Gemm | Operation::GemmSplitK)
}

impl Planned {
    fn case(&self, kernel: &Kernel) -> Case {
        let (m, tile) = (kernel.block_m as usize, kernel.block_n as usize);
        let (k, ctas) = (self.k.max(8), self.cluster as usize);
        let n = match kernel.operation {
            // A tile for the cluster.
            Operation::GemmSplitK => tile,
            _ if 2 * ctas * m * tile * k <= SHORT => 2 * ctas * tile,
            _ => ctas * tile,
        };
        // Of a kernel that shares h, tiles of h and of y meet in two CTAs.
        let grid = if kernel.operation == Operation::Fused { 2 } else { self.cluster };
        Case { seed: 22, grid: Some(grid), cluster: Some(self.cluster), ..Case::new(m, n, k, self.rank) }
    }
}

fn at_true_k(operation: Operation) {
    let all = planned(operation);
    assert!(!all.is_empty(), "the planner picks no kernel for {operation:?}");
    for (turn, planned) in all.iter().enumerate() {
        let kernel = kernel(planned.name);
        hold(kernel, &planned.case(kernel), &schedules(turn, 1));
        println!("{planned:?}");
    }
    let distinct: BTreeSet<_> = all.iter().map(|p| (p.name, p.cluster, p.k)).collect();
    println!("{} of (entry, cluster, K), {} with their ranks", distinct.len(), all.len());
}

for_each_operation!(at_true_k: planned_gemm Gemm, planned_split_k GemmSplitK, planned_fused Fused, planned_recompute FusedRecompute,
    planned_cooperative FusedCooperative, planned_shrink Shrink, planned_expand Expand);

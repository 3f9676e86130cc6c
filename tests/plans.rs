//! What the planner launches for everything that is published.

use std::collections::BTreeSet;

use fused_lora::{Problem, Strategy, cuda::Gpu};
use fused_lora_kernels::table::Operation;
use fused_lora_records::{Workload, grid};
use fused_lora_transformer::{Config, Method, Targets, cuda::products};

/// The GPUs whose launches must all have run: the benches are meant for these.
pub const GPUS: [&str; 5] = ["h200", "h100", "a100", "l4", "rtx4090"];

/// A launch of a kernel, as far as its steps depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Planned {
    /// The name of the entry.
    pub name: &'static str,
    /// CTAs of a cluster.
    pub cluster: u32,
    /// Of x and W; 0 for the expand, which does not read them.
    pub k: usize,
    /// 0 for the base product.
    pub rank: usize,
}

/// All launches of an operation, each once: for every strategy, the cells of the grid times the workloads of
/// linear layers; and for every method, the products of GPT-2 medium's layer.
///
/// # Panics
///
/// If the planner has no kernel for one of them.
pub fn planned(operation: Operation) -> BTreeSet<Planned> {
    let mut asked: Vec<(Problem, Strategy)> = Vec::new();
    for cell in grid() {
        for projection in Workload::LINEARS.iter().flat_map(Workload::projections) {
            let problem = Problem::new(cell.m(), projection.d_out, projection.d_in, cell.rank);
            asked.extend(Strategy::ALL.map(|strategy| (problem, strategy)));
        }
        for method in Method::ALL.into_iter().filter(|&method| cell.rank > 0 || method == Method::None) {
            for targets in [Targets::All, Targets::QueryValue] {
                asked.extend(products(&Config::GPT2_MEDIUM_LAYER, method, targets, cell.rank, cell.m()));
            }
        }
    }
    asked.sort_by_key(|(problem, strategy)| (problem.m, problem.n, problem.k, problem.rank, *strategy as u8));
    asked.dedup();
    let gpus = GPUS.map(|name| Gpu::from_data_sheet(name).expect("it has a data sheet"));
    let mut all = BTreeSet::new();
    for (gpu, (problem, strategy)) in gpus.iter().flat_map(|gpu| asked.iter().map(move |asked| (gpu, asked)))
    {
        let plan = gpu.plan(problem, *strategy).expect("there is a kernel for it");
        let launches = plan.launches().iter().filter(|launch| launch.kernel.operation == operation);
        all.extend(launches.map(|launch| Planned {
            name: launch.kernel.name,
            cluster: launch.cluster,
            k: if operation == Operation::Expand { 0 } else { problem.k },
            rank: if is_base(operation) { 0 } else { problem.rank },
        }));
    }
    all
}

fn is_base(operation: Operation) -> bool {
    matches!(operation, Operation::Gemm | Operation::GemmSplitK)
}

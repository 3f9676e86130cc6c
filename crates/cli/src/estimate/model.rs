use anyhow::{Context, Result};
use fused_lora::{
    Problem, Strategy,
    plan::{Gpu, Plan, Target},
};
use fused_lora_records::{Cell, Workload, grid};

use super::table::Estimate;
use crate::device;

/// To what the tensor cores round a rank up, where it is N and where it is K: `wgmma` takes N by 8, the
/// `mma.sync` kernels both by 16.
fn granules(target: Target) -> (usize, usize) {
    match target {
        Target::Sm80 => (16, 16),
        Target::Sm90a => (8, 16),
    }
}

/// The GPU in words, and the estimates of all cells, workload by workload.
pub(super) fn estimate(
    name: Option<&str>,
    device: Option<u32>,
    workloads: &[&'static Workload],
) -> Result<(String, Vec<Estimate>)> {
    let gpu = match (name, device) {
        (Some(name), _) => {
            Gpu::from_data_sheet(name).with_context(|| format!("there is no data sheet of {name}"))?
        }
        (None, ordinal) => device::gpu(ordinal.unwrap_or(0))?,
    };
    let mut estimates = Vec::new();
    for workload in workloads {
        for cell in grid() {
            estimates.push(of_cell(&gpu, workload, cell)?);
        }
    }
    let source = if name.is_some() { "data sheet" } else { "driver" };
    let properties = gpu.properties();
    let words = format!(
        "{} (by its {source}): {} SMs at {} MHz, {:.2} TB/s",
        properties.name,
        properties.multiprocessors,
        properties.clock_khz / 1000,
        properties.memory_bandwidth() / 1e12
    );
    Ok((words, estimates))
}

fn of_cell(gpu: &Gpu, workload: &'static Workload, cell: Cell) -> Result<Estimate> {
    let plans = |strategy| -> Result<Vec<Plan>> {
        let of = |projection: &fused_lora_records::Projection| {
            let problem = Problem::new(cell.m(), projection.d_out, projection.d_in, cell.rank);
            Ok(gpu.plan(&problem, strategy)?)
        };
        workload.projections().iter().map(of).collect()
    };
    let [base, unfused, fused] = Strategy::ALL.map(plans);
    let (base, unfused, fused) = (base?, unfused?, fused?);
    let seconds = |plans: &[Plan]| plans.iter().map(Plan::seconds).sum();
    let words = |plans: &[Plan]| plans.iter().map(Plan::to_string).collect();
    let (shrink_n, expand_k) = granules(gpu.target());
    Ok(Estimate {
        workload: workload.name(),
        seq_len: cell.seq_len,
        batch: cell.batch,
        rank: cell.rank,
        base: seconds(&base),
        unfused: seconds(&unfused),
        fused: seconds(&fused),
        floor_pad_pct: workload.floor_pad_pct(cell.rank, shrink_n, expand_k),
        base_kernels: words(&base),
        kernels: words(&fused),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_data_sheets() {
        let mut names: Vec<_> = Gpu::data_sheets().collect();
        let mut given = super::super::GPUS.to_vec();
        names.sort_unstable();
        given.sort_unstable();
        assert_eq!(names, given);
    }

    #[test]
    fn a_cell_is_the_sum_of_its_layers() {
        let gpu = Gpu::from_data_sheet("h200").unwrap();
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        let cell = Cell { seq_len: 256, batch: 4, rank: 100 };
        let estimate = of_cell(&gpu, workload, cell).unwrap();
        let of = |n, k, strategy| gpu.plan(&Problem::new(1024, n, k, 100), strategy).unwrap().seconds();
        let all = |strategy| {
            [(3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096)]
                .map(|(n, k)| of(n, k, strategy))
                .iter()
                .sum::<f64>()
        };
        assert_eq!(estimate.base, all(Strategy::Base));
        assert_eq!(estimate.unfused, all(Strategy::Unfused));
        assert_eq!(estimate.fused, all(Strategy::Fused));
        assert_eq!((estimate.m(), estimate.kernels.len()), (1024, 4));
        // `wgmma` takes 104 columns of A and 112 of B.
        assert_eq!(estimate.floor_pad_pct, workload.floor_pad_pct(100, 8, 16));
        let without = of_cell(&gpu, workload, Cell { rank: 0, ..cell }).unwrap();
        assert_eq!(without.slowdown_pct(without.fused), 0.0);
        assert_eq!(without.floor_pad_pct, 0.0);
    }
}

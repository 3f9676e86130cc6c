use fused_lora::{
    Problem, Strategy,
    plan::{
        Error, Gpu, Plan, Target,
        cost::{Seconds, limit},
    },
};
use fused_lora_records::{Cell, Workload, grid};

use crate::cell::Estimate;

/// To what the tensor cores round a rank up, where it is N and where it is K: `wgmma` takes N by 8, the
/// `mma.sync` kernels both by 16.
fn granules(target: Target) -> (usize, usize) {
    match target {
        Target::Sm80 => (16, 16),
        Target::Sm90a => (8, 16),
    }
}

/// The GPUs of which the library has a data sheet.
pub fn data_sheets() -> impl ExactSizeIterator<Item = &'static str> {
    Gpu::data_sheets()
}

/// The GPU in words, with where they come from.
#[must_use]
pub fn gpu_words(gpu: &Gpu, source: &str) -> String {
    let properties = gpu.properties();
    format!(
        "{} (by its {source}): {} SMs at {} MHz, {:.2} TB/s",
        properties.name,
        properties.multiprocessors,
        properties.clock_khz / 1000,
        properties.memory_bandwidth() / 1e12
    )
}

/// The estimates of all cells, workload by workload.
///
/// # Errors
///
/// If the GPU has no kernel for one of them.
pub fn estimate(gpu: &Gpu, workloads: &[&'static Workload]) -> Result<Vec<Estimate>, Error> {
    let cells = workloads.iter().flat_map(|workload| grid().map(move |cell| (*workload, cell)));
    cells.map(|(workload, cell)| of_cell(gpu, workload, cell)).collect()
}

fn of_cell(gpu: &Gpu, workload: &'static Workload, cell: Cell) -> Result<Estimate, Error> {
    let problems = |rank| {
        let of = move |projection: &fused_lora_records::Projection| {
            Problem::new(cell.m(), projection.d_out, projection.d_in, rank)
        };
        workload.projections().iter().map(of)
    };
    let plans = |strategy| -> Result<Vec<Plan>, Error> {
        problems(cell.rank).map(|problem| gpu.plan(&problem, strategy)).collect()
    };
    let limit = |rank| problems(rank).map(|problem| limit(&problem, gpu.properties())).sum();
    let [base, unfused, fused] = Strategy::ALL.map(plans);
    let (base, unfused, fused) = (base?, unfused?, fused?);
    let seconds = |plans: &[Plan]| plans.iter().map(Plan::seconds).sum::<Seconds>();
    let words = |plans: &[Plan]| plans.iter().map(Plan::to_string).collect();
    let (shrink_n, expand_k) = granules(gpu.target());
    Ok(Estimate {
        workload,
        cell,
        base: seconds(&base),
        unfused: seconds(&unfused),
        fused: seconds(&fused),
        base_limit: limit(0),
        fused_limit: limit(cell.rank),
        floor_pad_pct: workload.floor_pad_pct(cell.rank, shrink_n, expand_k),
        base_kernels: words(&base),
        kernels: words(&fused),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::set::Set;

    #[test]
    fn a_cell_is_the_sum_of_its_layers() {
        let gpu = Gpu::from_data_sheet("h200").unwrap();
        let workload = Workload::by_name("gpt2-medium-linears").unwrap();
        let cell = Cell { seq_len: 256, batch: 4, rank: 100 };
        let estimate = of_cell(&gpu, workload, cell).unwrap();
        let layers = [(3072, 1024), (1024, 1024), (4096, 1024), (1024, 4096)];
        let of = |n, k, strategy| gpu.plan(&Problem::new(1024, n, k, 100), strategy).unwrap().seconds();
        let all = |strategy| layers.map(|(n, k)| of(n, k, strategy)).into_iter().sum::<Seconds>();
        assert_eq!(estimate.base, all(Strategy::Base));
        assert_eq!(estimate.unfused, all(Strategy::Unfused));
        assert_eq!(estimate.fused, all(Strategy::Fused));
        assert_eq!(estimate.kernels.len(), 4);
        let limits = |rank| {
            let of = |(n, k)| limit(&Problem::new(1024, n, k, rank), gpu.properties());
            layers.map(of).into_iter().sum::<Seconds>()
        };
        assert_eq!((estimate.base_limit, estimate.fused_limit), (limits(0), limits(100)));
        // `wgmma` takes 104 columns of A and 112 of B.
        assert_eq!(estimate.floor_pad_pct, workload.floor_pad_pct(100, 8, 16));
        let without = of_cell(&gpu, workload, Cell { rank: 0, ..cell }).unwrap();
        assert_eq!(Set::ALL.map(|set| without.slowdown_pct(without.fused, set)), [0.0, 0.0]);
        assert_eq!(without.floor_pad_pct, 0.0);
    }
}

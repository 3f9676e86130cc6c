//! Estimates as text and as CSV.

use crate::{
    cell::{Estimate, LABEL},
    set::Set,
};

/// The columns of the CSV that each set has. None is one of a measurement: nobody should take one for the
/// other.
const OF_SET: [&str; 5] = ["base_us", "unfused_us", "fused_us", "unfused_slowdown_pct", "fused_slowdown_pct"];

/// µs of all three, and the slow-downs of the last two, as [`OF_SET`] names them.
fn numbers(cell: &Estimate, set: Set) -> [f64; 5] {
    let Estimate { base, unfused, fused, .. } = *cell;
    let [base_us, unfused_us, fused_us] = [base, unfused, fused].map(|seconds| set.of(seconds) * 1e6);
    [base_us, unfused_us, fused_us, cell.slowdown_pct(unfused, set), cell.slowdown_pct(fused, set)]
}

/// Lines of `,`-separated values, behind one that says what they are. By hand: no value needs more than
/// quotes, and the first line is none of the format's.
#[must_use]
pub fn csv(gpu: &str, estimates: &[Estimate]) -> String {
    let of_sets = Set::ALL.map(|set| OF_SET.map(|name| format!("{set}_{name}")).join(","));
    let [optimistic, pessimistic] = &of_sets;
    let mut text = format!(
        "# {LABEL}: {gpu}\nworkload,seq_len,batch,m,rank,{optimistic},{pessimistic},floor_pad_pct,\
         base_kernels,fused_kernels\n"
    );
    for estimate in estimates {
        let (name, cell, floor) = (estimate.workload.name(), estimate.cell, estimate.floor_pad_pct);
        text += &format!("{name},{},{},{},{},", cell.seq_len, cell.batch, cell.m(), cell.rank);
        for set in Set::ALL {
            let [base, unfused, fused, unfused_pct, fused_pct] = numbers(estimate, set);
            text += &format!("{base:.3},{unfused:.3},{fused:.3},{unfused_pct:.2},{fused_pct:.2},");
        }
        let (base_kernels, kernels) = (estimate.base_kernels.join("; "), estimate.kernels.join("; "));
        text += &format!("{floor:.2},\"{base_kernels}\",\"{kernels}\"\n");
    }
    text
}

/// A table for people, workload by workload. Each number stands twice: by the optimistic set, and by the
/// pessimistic one.
#[must_use]
pub fn text(gpu: &str, estimates: &[Estimate]) -> String {
    let mut text = format!(
        "{LABEL}: {gpu}\nby the optimistic / the pessimistic constants of the cost model: times in µs, \
         slow-downs and their floor in % of base\n"
    );
    let mut workload = "";
    for estimate in estimates {
        if estimate.workload.name() != workload {
            workload = estimate.workload.name();
            text += &format!(
                "\n{workload}\n{:>4} {:>5} {:>6} {:>4} {:>19} {:>19} {:>19} {:>15} {:>13} {:>9}  \
                 kernels of fused\n",
                "seq", "batch", "M", "r", "base", "unfused", "fused", "unfused%", "fused%", "floor_pad"
            );
        }
        let (cell, floor) = (estimate.cell, estimate.floor_pad_pct);
        let [low, high] = Set::ALL.map(|set| numbers(estimate, set));
        text += &format!("{:>4} {:>5} {:>6} {:>4}", cell.seq_len, cell.batch, cell.m(), cell.rank);
        for time in 0..3 {
            text += &format!(" {:>8.2} / {:>8.2}", low[time], high[time]);
        }
        text += &format!(" {:>6.1} / {:>6.1} {:>5.1} / {:>5.1}", low[3], high[3], low[4], high[4]);
        text += &format!(" {floor:>9.1}  {}\n", estimate.kernels.join("; "));
    }
    text
}

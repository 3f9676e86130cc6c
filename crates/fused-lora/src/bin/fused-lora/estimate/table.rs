//! Estimates as text and as CSV.

use std::fmt::Write as _;

use super::{Estimate, LABEL};

/// The columns of the CSV. Not those of a measurement: nobody should take one for the other.
const COLUMNS: &str = "workload,seq_len,batch,m,rank,estimated_base_us,estimated_unfused_us,estimated_fused_us,\
    estimated_unfused_slowdown_pct,estimated_fused_slowdown_pct,floor_pad_pct,base_kernels,fused_kernels";

/// Lines of `,`-separated values, behind one that says what they are.
pub(super) fn csv(gpu: &str, estimates: &[Estimate]) -> String {
    let mut text = format!("# {LABEL}: {gpu}\n{COLUMNS}\n");
    for cell in estimates {
        let Estimate { workload, seq_len, batch, rank, base, unfused, fused, floor_pad_pct, .. } = cell;
        let (base_kernels, kernels) = (cell.base_kernels.join("; "), cell.kernels.join("; "));
        push(
            &mut text,
            format_args!(
                "{workload},{seq_len},{batch},{},{rank},{:.3},{:.3},{:.3},{:.2},{:.2},{floor_pad_pct:.2},\"{base_kernels}\",\"{kernels}\"\n",
                cell.m(),
                base * 1e6,
                unfused * 1e6,
                fused * 1e6,
                cell.slowdown_pct(*unfused),
                cell.slowdown_pct(*fused),
            ),
        );
    }
    text
}

/// A table for people, workload by workload.
pub(super) fn text(gpu: &str, estimates: &[Estimate]) -> String {
    let mut text = format!("{LABEL}: {gpu}\ntimes in µs, slow-downs and their floor in % of base\n");
    let mut workload = "";
    for cell in estimates {
        if cell.workload != workload {
            workload = cell.workload;
            push(
                &mut text,
                format_args!(
                    "\n{workload}\n{:>4} {:>5} {:>6} {:>4} {:>9} {:>9} {:>9} {:>8} {:>6} {:>9}  kernels of fused\n",
                    "seq", "batch", "M", "r", "base", "unfused", "fused", "unfused%", "fused%", "floor_pad"
                ),
            );
        }
        let Estimate { seq_len, batch, rank, base, unfused, fused, floor_pad_pct, .. } = cell;
        push(
            &mut text,
            format_args!(
                "{seq_len:>4} {batch:>5} {:>6} {rank:>4} {:>9.2} {:>9.2} {:>9.2} {:>8.1} {:>6.1} {floor_pad_pct:>9.1}  {}\n",
                cell.m(),
                base * 1e6,
                unfused * 1e6,
                fused * 1e6,
                cell.slowdown_pct(*unfused),
                cell.slowdown_pct(*fused),
                cell.kernels.join("; ")
            ),
        );
    }
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("writing to a String cannot fail");
}

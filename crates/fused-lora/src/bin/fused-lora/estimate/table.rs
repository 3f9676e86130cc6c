//! Estimates as text and as CSV.

use std::fmt::Write as _;

/// What every output says first.
const LABEL: &str = "estimate, not measured";

/// The columns of the CSV. Not those of a measurement: nobody should take one for the other.
const COLUMNS: &str = "workload,seq_len,batch,m,rank,\
    estimated_base_us,estimated_unfused_us,estimated_fused_us,\
    estimated_unfused_slowdown_pct,estimated_fused_slowdown_pct,floor_pad_pct,base_kernels,fused_kernels";

/// One cell of the grid.
pub(super) struct Estimate {
    pub(super) workload: &'static str,
    pub(super) seq_len: usize,
    pub(super) batch: usize,
    pub(super) rank: usize,
    /// Seconds of the base product, the three launches, the one.
    pub(super) base: f64,
    pub(super) unfused: f64,
    pub(super) fused: f64,
    /// The least slow-down at equal efficiency, with the rank as the tensor cores take it, in percent.
    pub(super) floor_pad_pct: f64,
    /// What `base` and `fused` would launch, layer by layer.
    pub(super) base_kernels: Vec<String>,
    pub(super) kernels: Vec<String>,
}

impl Estimate {
    pub(super) fn m(&self) -> usize {
        self.seq_len * self.batch
    }

    pub(super) fn slowdown_pct(&self, seconds: f64) -> f64 {
        100.0 * (seconds / self.base - 1.0)
    }
}

/// Lines of `,`-separated values, behind one that says what they are.
pub(super) fn csv(gpu: &str, estimates: &[Estimate]) -> String {
    let mut text = format!("# {LABEL}: {gpu}\n{COLUMNS}\n");
    for cell in estimates {
        let Estimate { workload, seq_len, batch, rank, base, unfused, fused, floor_pad_pct, .. } = cell;
        let (base_kernels, kernels) = (cell.base_kernels.join("; "), cell.kernels.join("; "));
        push(
            &mut text,
            format_args!(
                "{workload},{seq_len},{batch},{},{rank},{:.3},{:.3},{:.3},{:.2},{:.2},\
                 {floor_pad_pct:.2},\"{base_kernels}\",\"{kernels}\"\n",
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
                    "\n{workload}\n{:>4} {:>5} {:>6} {:>4} {:>9} {:>9} {:>9} {:>8} {:>6} {:>9}  \
                     kernels of fused\n",
                    "seq", "batch", "M", "r", "base", "unfused", "fused", "unfused%", "fused%", "floor_pad"
                ),
            );
        }
        let Estimate { seq_len, batch, rank, base, unfused, fused, floor_pad_pct, .. } = cell;
        push(
            &mut text,
            format_args!(
                "{seq_len:>4} {batch:>5} {:>6} {rank:>4} {:>9.2} {:>9.2} {:>9.2} {:>8.1} {:>6.1} \
                 {floor_pad_pct:>9.1}  {}\n",
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

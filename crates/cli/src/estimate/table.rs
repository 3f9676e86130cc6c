//! Estimates as text and as CSV.

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

    /// µs of all three, and the slow-downs of the last two.
    fn numbers(&self) -> [f64; 5] {
        let Self { base, unfused, fused, .. } = *self;
        let [base_us, unfused_us, fused_us] = [base, unfused, fused].map(|seconds| seconds * 1e6);
        [base_us, unfused_us, fused_us, self.slowdown_pct(unfused), self.slowdown_pct(fused)]
    }
}

/// Lines of `,`-separated values, behind one that says what they are. By hand: no value needs more than
/// quotes, and the first line is none of the format's.
pub(super) fn csv(gpu: &str, estimates: &[Estimate]) -> String {
    let mut text = format!("# {LABEL}: {gpu}\n{COLUMNS}\n");
    for cell in estimates {
        let Estimate { workload, seq_len, batch, rank, floor_pad_pct, .. } = cell;
        let (m, [base, unfused, fused, unfused_pct, fused_pct]) = (cell.m(), cell.numbers());
        let (base_kernels, kernels) = (cell.base_kernels.join("; "), cell.kernels.join("; "));
        text += &format!(
            "{workload},{seq_len},{batch},{m},{rank},{base:.3},{unfused:.3},{fused:.3},\
             {unfused_pct:.2},{fused_pct:.2},{floor_pad_pct:.2},\"{base_kernels}\",\"{kernels}\"\n"
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
            text += &format!(
                "\n{workload}\n{:>4} {:>5} {:>6} {:>4} {:>9} {:>9} {:>9} {:>8} {:>6} {:>9}  \
                 kernels of fused\n",
                "seq", "batch", "M", "r", "base", "unfused", "fused", "unfused%", "fused%", "floor_pad"
            );
        }
        let Estimate { seq_len, batch, rank, floor_pad_pct, .. } = cell;
        let (m, [base, unfused, fused, unfused_pct, fused_pct]) = (cell.m(), cell.numbers());
        let kernels = cell.kernels.join("; ");
        text += &format!(
            "{seq_len:>4} {batch:>5} {m:>6} {rank:>4} {base:>9.2} {unfused:>9.2} {fused:>9.2} \
             {unfused_pct:>8.1} {fused_pct:>6.1} {floor_pad_pct:>9.1}  {kernels}\n"
        );
    }
    text
}

use fused_lora::plan::cost::Seconds;
use fused_lora_records::{Cell, Workload};

use crate::set::Set;

/// What every output says first, and every panel of the figure.
pub const LABEL: &str = "estimate, not measured";

/// One cell of the grid. All seconds are those of the workload's layers one after another.
#[derive(Clone, Debug)]
pub struct Estimate {
    /// The layers of a forward pass.
    pub workload: &'static Workload,
    /// Tokens, sequences and rank.
    pub cell: Cell,
    /// The base product.
    pub base: Seconds,
    /// The three launches.
    pub unfused: Seconds,
    /// The one launch.
    pub fused: Seconds,
    /// What no base product can beat.
    pub base_limit: Seconds,
    /// What no fused product can beat.
    pub fused_limit: Seconds,
    /// The least slow-down at equal efficiency, with the rank as the tensor cores take it, in percent.
    pub floor_pad_pct: f64,
    /// What the base would launch, layer by layer.
    pub base_kernels: Vec<String>,
    /// What the fused product would launch, layer by layer.
    pub kernels: Vec<String>,
}

impl Estimate {
    /// Slow-down against the base by one set, in percent.
    #[must_use]
    pub fn slowdown_pct(&self, seconds: Seconds, set: Set) -> f64 {
        100.0 * (set.of(seconds) / set.of(self.base) - 1.0)
    }
}

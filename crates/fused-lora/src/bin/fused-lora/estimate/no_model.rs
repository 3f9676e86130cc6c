//! In place of the model, where this build has none.

use anyhow::{Result, bail};
use fused_lora_records::Workload;

use super::Estimate;

#[cfg(feature = "cuda")]
const REASON: &str = "CUDA is supported on Linux with x86-64 or aarch64 alone";
#[cfg(not(feature = "cuda"))]
const REASON: &str = "built without the feature `cuda`";

pub(super) fn estimate(
    _: Option<&str>,
    _: Option<u32>,
    _: &[&'static Workload],
) -> Result<(String, Vec<Estimate>)> {
    bail!("{REASON}")
}

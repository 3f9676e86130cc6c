//! In place of the model, where this build has none.

use anyhow::{Result, bail};
use fused_lora_records::Workload;

use super::table::Estimate;

pub(super) fn estimate(
    _: Option<&str>,
    _: Option<u32>,
    _: &[&'static Workload],
) -> Result<(String, Vec<Estimate>)> {
    bail!("built without the feature `cuda`")
}

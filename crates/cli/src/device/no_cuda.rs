//! In place of the GPU, where the library has no side for it.

use anyhow::{Result, bail};
use half::f16;
use ndarray::Array2;
use serde_json::{Value, json};

use super::job::Job;

const REASON: &str = "CUDA is supported on Linux with x86-64 or aarch64 alone";

pub(super) fn forward(_: &Job<'_, f16>, _: u32) -> Result<(Array2<f16>, String)> {
    bail!("{REASON}")
}

pub(crate) fn gpu(_: u32) -> Result<fused_lora::plan::Gpu> {
    bail!("{REASON}")
}

pub(crate) fn facts() -> Vec<(String, Value)> {
    vec![("cuda".to_owned(), json!(format!("none: {REASON}")))]
}

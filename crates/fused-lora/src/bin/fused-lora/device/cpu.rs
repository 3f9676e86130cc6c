use anyhow::Result;
use fused_lora::cpu::{Adapter, Layer, Workspace};
use half::f16;
use ndarray::Array2;

use super::Job;

/// y, and the SIMD level that computed it.
pub(super) fn forward(job: &Job<'_>) -> Result<(Array2<f16>, String)> {
    let adapter = Adapter::new(job.lora.a.view(), job.lora.b.view(), job.lora.scale)?;
    let layer = Layer::new(job.weight.view())?.with_adapter(adapter)?.with_epilogue(&job.epilogue())?;
    let mut y = Array2::zeros((job.x.nrows(), layer.out_features()));
    layer.call(job.x.view()).strategy(job.strategy).run(y.view_mut(), &mut Workspace::new())?;
    Ok((y, layer.simd().to_string()))
}

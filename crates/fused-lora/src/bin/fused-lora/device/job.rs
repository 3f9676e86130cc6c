use anyhow::Result;
use fused_lora::{
    Epilogue, Strategy,
    cpu::{Adapter, Layer, Workspace},
    peft::LoraWeights,
};
use half::f16;
use ndarray::{Array1, Array2};

use crate::level::Level;

/// What is to be computed.
pub(crate) struct Job<'a> {
    pub(crate) x: &'a Array2<f16>,
    pub(crate) weight: &'a Array2<f16>,
    pub(crate) bias: Option<Array1<f16>>,
    pub(crate) lora: &'a LoraWeights,
    pub(crate) strategy: Strategy,
    pub(crate) level: &'a Level,
}

impl Job<'_> {
    /// y, and the SIMD level that computed it.
    pub(super) fn on_cpu(&self) -> Result<(Array2<f16>, String)> {
        let simd = self.level.simd()?;
        let adapter = Adapter::with_simd(simd, self.lora.a.view(), self.lora.b.view(), self.lora.scale)?;
        let layer = Layer::with_simd(simd, self.weight.view())?.with_adapter(adapter)?;
        let layer = layer.with_epilogue(&self.epilogue())?;
        let mut y = Array2::zeros((self.x.nrows(), layer.out_features()));
        layer.call(self.x.view()).strategy(self.strategy).run(y.view_mut(), &mut Workspace::new())?;
        Ok((y, layer.simd().to_string()))
    }

    pub(super) fn epilogue(&self) -> Epilogue {
        self.bias.clone().map_or_else(Epilogue::default, Epilogue::bias)
    }
}

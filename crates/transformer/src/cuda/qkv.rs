use fused_lora::{
    Epilogue, Strategy,
    cuda::{self, Adapter, Device, Matrix, Stream},
};
use ndarray::s;

use super::{linear, set_lora, workspace::Scratch};
use crate::{Error, LinearWeights, LoraWeights};

/// The product that makes q, k and v.
#[derive(Clone, Debug)]
pub(super) struct Qkv {
    d: usize,
    pub(super) whole: cuda::Layer,
    /// What runs in its place where LoRA is on [q and v](crate::Targets::QueryValue).
    split: Option<Split>,
}

/// Rows of x have two adapters then, and a launch gives each row one. q and k are one product, whose adapter adds to
/// q's columns alone; v is another.
#[derive(Clone, Debug)]
struct Split {
    query_key: cuda::Layer,
    value: cuda::Layer,
}

impl Qkv {
    pub(super) fn new(device: &Device, d: usize, weights: &LinearWeights) -> Result<Self, Error> {
        Ok(Self { d, whole: linear(device, "qkv", [3 * d, d], weights, None)?, split: None })
    }

    /// Without adapters, its weight shared.
    pub(super) fn bare(&self) -> Result<Self, Error> {
        let mut whole = self.whole.clone();
        whole.set_adapter(None)?;
        Ok(Self { d: self.d, whole, split: None })
    }

    /// Runs it in two, from weights that are copied to the device once more.
    pub(super) fn set_query_value(
        &mut self,
        weights: &LinearWeights,
        query: &LoraWeights,
        value: &LoraWeights,
    ) -> Result<(), Error> {
        let (d, device) = (self.d, self.whole.device());
        let part = |rows: std::ops::Range<usize>| -> Result<cuda::Layer, Error> {
            let LinearWeights { weight, bias } = weights;
            let epilogue = Epilogue::bias(bias.slice(s![rows.clone()]).to_owned());
            Ok(cuda::Layer::new(device, weight.slice(s![rows, ..]))?.with_epilogue(&epilogue)?)
        };
        let mut split = Split { query_key: part(0..2 * d)?, value: part(2 * d..3 * d)? };
        let LoraWeights { a, b, scale } = query;
        let adapter = Adapter::on_columns(device, a.view(), b.view(), *scale, 0..d, 2 * d)?;
        split.query_key.set_adapter(Some(adapter))?;
        set_lora(&mut split.value, value)?;
        self.split = Some(split);
        Ok(())
    }

    /// `x: [M, d]` → `y: [M, 3 d]`
    pub(super) fn forward(
        &self,
        strategy: Strategy,
        x: Matrix<'_>,
        y: &mut Scratch,
        products: &mut cuda::Workspace,
        stream: &Stream,
    ) -> Result<(), cuda::Error> {
        let d = self.d;
        let whole = y.shaped(x.rows(), 3 * d)?;
        let Some(Split { query_key, value }) = &self.split else {
            return self.whole.call(x).strategy(strategy).run(whole, products, stream);
        };
        query_key.call(x).strategy(strategy).run(y.columns(0, 2 * d)?, products, stream)?;
        value.call(x).strategy(strategy).run(y.columns(2 * d, d)?, products, stream)
    }
}

use std::sync::Arc;

use fused_lora::{
    Activation, Residual, Strategy,
    cuda::{self, Buffer, CausalAttention, Device, LayerNorm, Matrix, MatrixMut, Stream},
};

use super::{
    bottleneck::Bottleneck,
    linear,
    qkv::Qkv,
    set_lora,
    workspace::{Buffers, Scratch, Workspace},
};
use crate::{
    AdapterWeights, Config, Error, LayerWeights, LinearWeights, LoraTargets, NormWeights, SEQ_LEN_LIMIT,
    Stage, expect_shape,
};

/// One layer on a device. Clones share its weights.
#[derive(Clone, Debug)]
pub struct Layer {
    config: Config,
    device: Device,
    norm1: LayerNorm,
    qkv: Qkv,
    /// On the host: what a split QKV is made from.
    qkv_weights: Arc<LinearWeights>,
    attention: CausalAttention,
    proj: cuda::Layer,
    norm2: LayerNorm,
    up: cuda::Layer,
    down: cuda::Layer,
    strategy: Strategy,
    sequential: Sequential,
}

/// Adapters that follow something.
#[derive(Clone, Debug)]
enum Sequential {
    None,
    H { attention: Bottleneck, mlp: Bottleneck },
    L { norm: LayerNorm, bottleneck: Bottleneck },
}

impl Layer {
    /// Copies a layer without adapters to the device.
    ///
    /// # Errors
    ///
    /// Those of [`Config::validated`], [`Error::Shape`], and [`Error::Cuda`]: without the memory, or for heads that the
    /// device's attention does not have ([`CausalAttention::new`]).
    pub fn new(device: &Device, config: Config, weights: &LayerWeights) -> Result<Self, Error> {
        let Config { d, heads, mlp, .. } = config.validated()?;
        let LayerWeights { norm1, qkv, proj, norm2, up, down } = weights;
        Ok(Self {
            config,
            device: device.clone(),
            norm1: norm(device, d, norm1)?,
            qkv: Qkv::new(device, d, qkv)?,
            qkv_weights: Arc::new(qkv.clone()),
            attention: CausalAttention::new(device, heads, config.head_dim())?,
            proj: linear(device, "the attention's projection", [d, d], proj, None)?,
            norm2: norm(device, d, norm2)?,
            up: linear(device, "the MLP's up projection", [mlp, d], up, Some(Activation::GeluTanh))?,
            down: linear(device, "the MLP's down projection", [d, mlp], down, None)?,
            strategy: Strategy::Base,
            sequential: Sequential::None,
        })
    }

    /// The same layer with these adapters in place of what it has. Weights are shared, but for q, k and v where LoRA is on q and
    /// v only: these are copied to the device once more.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] and [`Error::Cuda`] if adapters do not fit.
    pub fn with_adapters(&self, adapters: &AdapterWeights) -> Result<Self, Error> {
        let (device, d) = (&self.device, self.config.d);
        let mut layer = self.clone();
        layer.strategy = Strategy::Base;
        layer.sequential = Sequential::None;
        layer.qkv = self.qkv.bare()?;
        for product in [&mut layer.proj, &mut layer.up, &mut layer.down] {
            product.set_adapter(None)?;
        }
        match adapters {
            AdapterWeights::None => {}
            AdapterWeights::H { attention, mlp } => {
                layer.sequential = Sequential::H {
                    attention: Bottleneck::new(device, d, attention)?,
                    mlp: Bottleneck::new(device, d, mlp)?,
                };
            }
            AdapterWeights::L { norm: weights, bottleneck } => {
                layer.sequential = Sequential::L {
                    norm: norm(device, d, weights)?,
                    bottleneck: Bottleneck::new(device, d, bottleneck)?,
                };
            }
            AdapterWeights::Lora { fused, targets } => {
                layer.strategy = if *fused { Strategy::Fused } else { Strategy::Unfused };
                match targets {
                    LoraTargets::All { qkv, proj, up, down } => {
                        set_lora(&mut layer.qkv.whole, qkv)?;
                        set_lora(&mut layer.proj, proj)?;
                        set_lora(&mut layer.up, up)?;
                        set_lora(&mut layer.down, down)?;
                    }
                    LoraTargets::QueryValue { query, value } => {
                        layer.qkv.set_query_value(&self.qkv_weights, query, value)?;
                    }
                }
            }
        }
        Ok(layer)
    }

    /// Its sizes. (`layers` is the model's.)
    pub fn config(&self) -> Config {
        self.config
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// `x: [M, d]` → `y: [M, d]`, where M is a number of sequences of `seq_len` tokens, one after another. Queued on the stream, as
    /// [`cuda::Call::run`] is: nothing is allocated, copied, or waited for.
    ///
    /// # Errors
    ///
    /// [`Error::SeqLen`], [`Error::Shape`], [`Error::WorkspaceRows`], [`Error::Library`] where M is no whole number of sequences:
    /// nothing is queued then. [`Error::Cuda`], where a launch fails, or something is on another device.
    pub fn forward(
        &self,
        x: Matrix<'_>,
        seq_len: usize,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
    ) -> Result<(), Error> {
        self.forward_observed(x, seq_len, y, workspace, stream, |_, _| Ok(()))
    }

    /// As [`forward`](Self::forward), and shows, when what makes it is queued, the buffer of each stage between: from its start on
    /// it holds the stage's rows without gaps. What comes after may use the buffer again.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and what `observe` returns.
    pub fn forward_observed(
        &self,
        x: Matrix<'_>,
        seq_len: usize,
        y: MatrixMut<'_>,
        workspace: &mut Workspace,
        stream: &Stream,
        observe: impl FnMut(Stage, &Buffer) -> Result<(), cuda::Error>,
    ) -> Result<(), Error> {
        check(&self.config, &x, seq_len, &y, workspace)?;
        Ok(self.run(x, seq_len, y, &mut workspace.buffers, stream, observe)?)
    }

    /// [`forward_observed`](Self::forward_observed) of what has been [checked](check).
    pub(super) fn run(
        &self,
        x: Matrix<'_>,
        seq_len: usize,
        mut y: MatrixMut<'_>,
        buffers: &mut Buffers,
        stream: &Stream,
        mut observe: impl FnMut(Stage, &Buffer) -> Result<(), cuda::Error>,
    ) -> Result<(), cuda::Error> {
        let Buffers { products, norm, qkv, attention, middle, mlp, branch, bottleneck } = buffers;
        let (m, d, strategy) = (x.rows(), self.config.d, self.strategy);

        self.norm1.forward(x, norm.shaped(m, d)?, stream)?;
        observe(Stage::Norm1, norm.buffer())?;

        self.qkv.forward(strategy, norm.view()?, qkv, products, stream)?;
        observe(Stage::Qkv, qkv.buffer())?;

        self.attention.forward(qkv.view()?, seq_len, attention.shaped(m, d)?, stream)?;
        observe(Stage::Attention, attention.buffer())?;

        let to = middle.shaped(m, d)?;
        if let Sequential::H { attention: adapter, .. } = &self.sequential {
            let z = behind(&self.proj, attention.view()?, branch, products, stream)?;
            adapter.forward(z, Residual::Sum(z, x), to, bottleneck, products, stream)?;
        } else {
            let residual = Residual::Matrix(x);
            self.proj
                .call(attention.view()?)
                .residual(residual)
                .strategy(strategy)
                .run(to, products, stream)?;
        }
        observe(Stage::Middle, middle.buffer())?;

        self.norm2.forward(middle.view()?, norm.shaped(m, d)?, stream)?;
        observe(Stage::Norm2, norm.buffer())?;

        self.up.call(norm.view()?).strategy(strategy).run(
            mlp.shaped(m, self.config.mlp)?,
            products,
            stream,
        )?;
        observe(Stage::Mlp, mlp.buffer())?;

        let middle = middle.view()?;
        match &self.sequential {
            Sequential::H { mlp: adapter, .. } => {
                let z = behind(&self.down, mlp.view()?, branch, products, stream)?;
                adapter.forward(z, Residual::Sum(z, middle), y, bottleneck, products, stream)
            }
            Sequential::None => {
                let residual = Residual::Matrix(middle);
                self.down.call(mlp.view()?).residual(residual).strategy(strategy).run(y, products, stream)
            }
            Sequential::L { norm: before, bottleneck: adapter } => {
                // Not in y: that is written, and cannot be read beside.
                let to = branch.shaped(m, d)?;
                let residual = Residual::Matrix(middle);
                self.down
                    .call(mlp.view()?)
                    .residual(residual)
                    .strategy(strategy)
                    .run(to, products, stream)?;
                let z = branch.view()?;
                before.forward(z, norm.shaped(m, d)?, stream)?;
                let residual = Residual::Matrix(z);
                adapter.forward(norm.view()?, residual, y.reborrow(), bottleneck, products, stream)
            }
        }
    }
}

/// What a sequential adapter starts from: the product alone.
fn behind<'a>(
    product: &cuda::Layer,
    x: Matrix<'_>,
    to: &'a mut Scratch,
    products: &mut cuda::Workspace,
    stream: &Stream,
) -> Result<Matrix<'a>, cuda::Error> {
    let y = to.shaped(x.rows(), product.out_features())?;
    product.call(x).strategy(Strategy::Base).run(y, products, stream)?;
    to.view()
}

fn norm(device: &Device, d: usize, weights: &NormWeights) -> Result<LayerNorm, Error> {
    let NormWeights { gamma, beta } = weights;
    expect_shape("gamma", &[d], gamma.shape())?;
    expect_shape("beta", &[d], beta.shape())?;
    Ok(LayerNorm::new(device, gamma.view(), beta.view())?)
}

/// What every forward pass asks of its operands.
pub(super) fn check(
    config: &Config,
    x: &Matrix<'_>,
    seq_len: usize,
    y: &MatrixMut<'_>,
    workspace: &Workspace,
) -> Result<(), Error> {
    if !(1..=SEQ_LEN_LIMIT).contains(&seq_len) {
        return Err(Error::SeqLen { seq_len, limit: SEQ_LEN_LIMIT });
    }
    let rows = x.rows();
    expect_shape("x", &[rows.max(1), config.d], &[rows, x.columns()])?;
    expect_shape("y", &[rows, config.d], &[y.rows(), y.columns()])?;
    if !rows.is_multiple_of(seq_len) {
        return Err(fused_lora::Error::Sequences { rows, seq_len }.into());
    }
    if rows > workspace.m_max {
        return Err(Error::WorkspaceRows { rows, limit: workspace.m_max });
    }
    Ok(())
}

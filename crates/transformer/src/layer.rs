use std::sync::Arc;

use fused_lora::{Activation, Epilogue, Residual, Strategy};
use ndarray::{Array1, Array2, s};

use crate::{
    backend::Backend,
    config::Config,
    error::{Error, expect_shape},
    weights::{
        AdapterWeights, BottleneckWeights, LayerWeights, LinearWeights, LoraTargets, LoraWeights, NormWeights,
    },
    workspace::{Buffers, Scratch, Workspace},
};

/// The intermediate results that [`Layer::forward_observed`] passes to its observer, in the order of their
/// computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// After the first LayerNorm: `[M, d]`.
    Norm1,
    /// q, k and v: `[M, 3 d]`.
    Qkv,
    /// After attention: `[M, d]`.
    Attention,
    /// The residual stream after the attention's projection and its AdapterH: `[M, d]`.
    Middle,
    /// After the second LayerNorm: `[M, d]`.
    Norm2,
    /// After the MLP's first product and GELU: `[M, mlp]`.
    Mlp,
}

/// One layer with its weights in a backend's layout. Clones share the weights.
#[derive(Clone, Debug)]
pub struct Layer<B: Backend> {
    /// Its sizes; `layers` is the number of layers of the model.
    pub(crate) config: Config,
    backend: B,
    norm1: B::LayerNorm,
    qkv: B::Linear,
    /// The products that run in place of `qkv` where LoRA is on [q and v](crate::Targets::QueryValue); empty
    /// elsewhere.
    qkv_parts: Vec<B::Linear>,
    /// What `qkv_parts` are made from.
    qkv_weights: Arc<LinearWeights>,
    attention: B::Attention,
    proj: B::Linear,
    norm2: B::LayerNorm,
    up: B::Linear,
    down: B::Linear,
    strategy: Strategy,
    sequential: Sequential<B>,
}

/// Adapters that follow a product.
#[derive(Clone, Debug)]
enum Sequential<B: Backend> {
    None,
    H { attention: Bottleneck<B>, mlp: Bottleneck<B> },
    L { norm: B::LayerNorm, bottleneck: Bottleneck<B> },
}

impl<B: Backend> Layer<B> {
    /// Lays out a layer without adapters: packed for a CPU, or copied to a device.
    ///
    /// # Errors
    ///
    /// The errors of [`Config::validated`], [`Error::Shape`], and [`Error::Library`] or `Error::Cuda` if
    /// there is not enough memory, or a device's attention does not support the head size.
    pub fn new(backend: &B, config: Config, weights: &LayerWeights) -> Result<Self, Error> {
        let Config { d, heads, mlp, .. } = config.validated()?;
        let LayerWeights { norm1, qkv, proj, norm2, up, down } = weights;
        let gelu = Some(Activation::GeluTanh);
        Ok(Self {
            config,
            backend: backend.clone(),
            norm1: layer_norm(backend, d, norm1)?,
            qkv: linear(backend, "qkv", [3 * d, d], qkv, None)?,
            qkv_parts: Vec::new(),
            qkv_weights: Arc::new(qkv.clone()),
            attention: backend.attention(heads, config.head_dim())?,
            proj: linear(backend, "the attention's projection", [d, d], proj, None)?,
            norm2: layer_norm(backend, d, norm2)?,
            up: linear(backend, "the MLP's up projection", [mlp, d], up, gelu)?,
            down: linear(backend, "the MLP's down projection", [d, mlp], down, None)?,
            strategy: Strategy::Base,
            sequential: Sequential::None,
        })
    }

    /// The same layer with these adapters in place of its own. Weights are shared, except on a device those
    /// of q, k and v if LoRA is on q and v only: these are laid out again.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`], and [`Error::Library`] or `Error::Cuda` if adapters do not fit.
    pub fn with_adapters(&self, adapters: &AdapterWeights) -> Result<Self, Error> {
        let (backend, d) = (&self.backend, self.config.d);
        let mut layer = self.clone();
        layer.strategy = adapters.method().strategy();
        layer.sequential = Sequential::None;
        layer.qkv_parts = Vec::new();
        for product in [&mut layer.qkv, &mut layer.proj, &mut layer.up, &mut layer.down] {
            B::set_adapter(product, None)?;
        }
        match adapters {
            AdapterWeights::None => {}
            AdapterWeights::H { attention, mlp } => {
                layer.sequential = Sequential::H {
                    attention: Bottleneck::new(backend, d, attention)?,
                    mlp: Bottleneck::new(backend, d, mlp)?,
                };
            }
            AdapterWeights::L { norm, bottleneck } => {
                layer.sequential = Sequential::L {
                    norm: layer_norm(backend, d, norm)?,
                    bottleneck: Bottleneck::new(backend, d, bottleneck)?,
                };
            }
            AdapterWeights::Lora { targets: LoraTargets::All { qkv, proj, up, down }, .. } => {
                set_lora::<B>(&mut layer.qkv, 3 * d, qkv)?;
                set_lora::<B>(&mut layer.proj, d, proj)?;
                set_lora::<B>(&mut layer.up, self.config.mlp, up)?;
                set_lora::<B>(&mut layer.down, d, down)?;
            }
            AdapterWeights::Lora { targets: LoraTargets::QueryValue { query, value }, .. } => {
                for lora in [query, value] {
                    expect_lora(d, lora)?;
                }
                layer.qkv_parts = backend.query_value(&layer.qkv, &self.qkv_weights, [query, value])?;
            }
        }
        Ok(layer)
    }

    /// `x: [M, d]` → `y: [M, d]`, where the M rows are whole sequences of `seq_len` tokens, one after
    /// another. The row stride of both is arbitrary; columns are adjacent.
    ///
    /// On the CPU work is shared as [`fused_lora::cpu`] says, and nothing is allocated once the workspace has
    /// grown. On a device calls are queued on the stream: nothing is allocated, copied, or waited for.
    ///
    /// # Errors
    ///
    /// [`Error::SeqLen`], [`Error::Shape`], [`Error::WorkspaceRows`], and [`Error::Library`] if M is not a
    /// multiple of `seq_len` or columns are not adjacent: nothing has then been computed or queued.
    /// `Error::Cuda` if a launch fails, or an operand is on another device.
    pub fn forward(
        &self,
        x: B::Matrix<'_>,
        seq_len: usize,
        y: B::MatrixMut<'_>,
        workspace: &mut Workspace<B>,
        stream: &B::Stream,
    ) -> Result<(), Error> {
        self.forward_observed(x, seq_len, y, workspace, stream, |_, _| Ok(()))
    }

    /// As [`forward`](Self::forward), and passes each stage to `observe`; on a device, as soon as the work
    /// that computes it is queued. Later stages may overwrite it.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward), and the errors of `observe`.
    pub fn forward_observed(
        &self,
        x: B::Matrix<'_>,
        seq_len: usize,
        y: B::MatrixMut<'_>,
        workspace: &mut Workspace<B>,
        stream: &B::Stream,
        observe: impl FnMut(Stage, &Scratch<B>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        workspace.check(&self.config, &x, seq_len, &y)?;
        self.run(x, seq_len, y, &mut workspace.buffers, stream, observe)
    }

    /// [`forward_observed`](Self::forward_observed) of operands that have been [checked](Workspace::check).
    pub(crate) fn run(
        &self,
        x: B::Matrix<'_>,
        seq_len: usize,
        y: B::MatrixMut<'_>,
        buffers: &mut Buffers<B>,
        stream: &B::Stream,
        mut observe: impl FnMut(Stage, &Scratch<B>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Buffers { products, norm, qkv, attention, middle, mlp, bottleneck } = buffers;
        let Config { d, mlp: width, .. } = self.config;
        let (m, strategy) = (B::shapes(&x, &y)[0][0], self.strategy);

        B::run_layer_norm(&self.norm1, x, norm.shaped(m, d)?, stream)?;
        observe(Stage::Norm1, norm)?;

        let mut first = 0;
        let whole = std::slice::from_ref(&self.qkv);
        for part in if self.qkv_parts.is_empty() { whole } else { &self.qkv_parts } {
            let columns = first..first + B::out_features(part);
            first = columns.end;
            let to = qkv.columns_of(m, 3 * d, columns)?;
            B::run_linear(part, strategy, norm.view()?, Residual::None, to, products, stream)?;
        }
        observe(Stage::Qkv, qkv)?;

        B::run_attention(&self.attention, qkv.view()?, seq_len, attention.shaped(m, d)?, products, stream)?;
        observe(Stage::Attention, attention)?;

        let to = middle.shaped(m, d)?;
        if let Sequential::H { attention: adapter, .. } = &self.sequential {
            let z = qkv.shaped(m, d)?;
            B::run_linear(&self.proj, strategy, attention.view()?, Residual::None, z, products, stream)?;
            let z = qkv.view()?;
            adapter.run(z, Residual::Sum(z, B::reborrow(&x)), to, bottleneck, products, stream)?;
        } else {
            B::run_linear(
                &self.proj,
                strategy,
                attention.view()?,
                Residual::Matrix(x),
                to,
                products,
                stream,
            )?;
        }
        observe(Stage::Middle, middle)?;

        B::run_layer_norm(&self.norm2, middle.view()?, norm.shaped(m, d)?, stream)?;
        observe(Stage::Norm2, norm)?;

        let to = mlp.shaped(m, width)?;
        B::run_linear(&self.up, strategy, norm.view()?, Residual::None, to, products, stream)?;
        observe(Stage::Mlp, mlp)?;

        let (input, residual) = (mlp.view()?, Residual::Matrix(middle.view()?));
        match &self.sequential {
            Sequential::None => B::run_linear(&self.down, strategy, input, residual, y, products, stream),
            Sequential::H { mlp: adapter, .. } => {
                let z = qkv.shaped(m, d)?;
                B::run_linear(&self.down, strategy, input, Residual::None, z, products, stream)?;
                let z = qkv.view()?;
                adapter.run(z, Residual::Sum(z, middle.view()?), y, bottleneck, products, stream)
            }
            Sequential::L { norm: before, bottleneck: adapter } => {
                let z = qkv.shaped(m, d)?;
                B::run_linear(&self.down, strategy, input, residual, z, products, stream)?;
                let z = qkv.view()?;
                B::run_layer_norm(before, z, norm.shaped(m, d)?, stream)?;
                adapter.run(norm.view()?, Residual::Matrix(z), y, bottleneck, products, stream)
            }
        }
    }
}

/// `up(gelu(down(x)))`, its rank rounded up with zeros to [`Backend::RANK_GRANULE`]. What is added is zero:
/// `gelu(0) = 0`.
#[derive(Clone, Debug)]
struct Bottleneck<B: Backend> {
    down: B::Linear,
    up: B::Linear,
}

impl<B: Backend> Bottleneck<B> {
    fn new(backend: &B, d: usize, weights: &BottleneckWeights) -> Result<Self, Error> {
        let BottleneckWeights { down, up } = weights;
        let rank = down.weight.nrows();
        expect_shape("the adapter's down projection", &[rank, d], down.weight.shape())?;
        expect_shape("the adapter's up projection", &[d, rank], up.weight.shape())?;
        expect_shape("the bias of the adapter's down projection", &[rank], down.bias.shape())?;
        let padded = rank.next_multiple_of(B::RANK_GRANULE);
        let [mut down_weight, mut up_weight] = [(padded, d), (d, padded)].map(Array2::zeros);
        let mut down_bias = Array1::zeros(padded);
        down_weight.slice_mut(s![..rank, ..]).assign(&down.weight);
        up_weight.slice_mut(s![.., ..rank]).assign(&up.weight);
        down_bias.slice_mut(s![..rank]).assign(&down.bias);
        let down = Epilogue::bias(down_bias).with_activation(Activation::GeluTanh);
        let up = Epilogue::bias(up.bias.clone());
        Ok(Self {
            down: backend.linear(down_weight.view(), &down)?,
            up: backend.linear(up_weight.view(), &up)?,
        })
    }

    /// `y = up(gelu(down(x))) + residual`
    fn run(
        &self,
        x: B::Matrix<'_>,
        residual: Residual<B::Matrix<'_>>,
        y: B::MatrixMut<'_>,
        between: &mut Scratch<B>,
        products: &mut B::Products,
        stream: &B::Stream,
    ) -> Result<(), Error> {
        let [m, _] = B::shapes(&x, &y)[0];
        let to = between.shaped(m, B::out_features(&self.down))?;
        B::run_linear(&self.down, Strategy::Base, x, Residual::None, to, products, stream)?;
        B::run_linear(&self.up, Strategy::Base, between.view()?, residual, y, products, stream)
    }
}

/// A product with its bias.
fn linear<B: Backend>(
    backend: &B,
    tensor: &'static str,
    shape: [usize; 2],
    weights: &LinearWeights,
    activation: Option<Activation>,
) -> Result<B::Linear, Error> {
    expect_shape(tensor, &shape, weights.weight.shape())?;
    let mut epilogue = Epilogue::bias(weights.bias.clone());
    epilogue.activation = activation;
    backend.linear(weights.weight.view(), &epilogue)
}

fn layer_norm<B: Backend>(backend: &B, d: usize, weights: &NormWeights) -> Result<B::LayerNorm, Error> {
    expect_shape("gamma", &[d], weights.gamma.shape())?;
    expect_shape("beta", &[d], weights.beta.shape())?;
    backend.layer_norm(weights)
}

/// An adapter that adds to the first `columns` of a product.
fn set_lora<B: Backend>(product: &mut B::Linear, columns: usize, lora: &LoraWeights) -> Result<(), Error> {
    expect_lora(columns, lora)?;
    B::set_adapter(product, Some(lora))
}

fn expect_lora(columns: usize, lora: &LoraWeights) -> Result<(), Error> {
    expect_shape("B of a LoRA", &[columns, lora.a.nrows()], lora.b.shape())
}

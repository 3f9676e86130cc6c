use std::sync::Arc;

use fused_lora::{
    Activation, Epilogue, Residual, Strategy,
    cpu::{self, CausalAttention, Simd},
};
use half::f16;
use ndarray::{ArrayView2, ArrayViewMut2, s};

use super::{
    norm::LayerNorm,
    workspace::{Buffer, Buffers, Workspace},
};
use crate::{
    AdapterWeights, BottleneckWeights, Config, Error, LayerWeights, LinearWeights, LoraTargets, LoraWeights,
    SEQ_LEN_LIMIT, Stage, expect_shape,
};

/// One layer, packed for the CPU. Clones share its weights.
#[derive(Clone, Debug)]
pub struct Layer {
    config: Config,
    simd: Simd,
    norm1: LayerNorm,
    qkv: cpu::Layer,
    /// q, k and v, which run in place of `qkv` where LoRA is on [q and v](crate::Targets::QueryValue).
    split: Option<[cpu::Layer; 3]>,
    /// Not packed: what `split` is made from.
    qkv_weights: Arc<LinearWeights>,
    attention: CausalAttention,
    proj: cpu::Layer,
    norm2: LayerNorm,
    up: cpu::Layer,
    down: cpu::Layer,
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

/// `up(gelu(down(x)))`
#[derive(Clone, Debug)]
struct Bottleneck {
    down: cpu::Layer,
    up: cpu::Layer,
}

impl Bottleneck {
    fn new(simd: Simd, d: usize, weights: &BottleneckWeights) -> Result<Self, Error> {
        let rank = weights.down.weight.nrows();
        Ok(Self {
            down: linear(
                simd,
                "the adapter's down projection",
                [rank, d],
                &weights.down,
                Some(Activation::GeluTanh),
            )?,
            up: linear(simd, "the adapter's up projection", [d, rank], &weights.up, None)?,
        })
    }

    /// `y = up(gelu(down(x))) + residual`
    fn forward(
        &self,
        x: ArrayView2<'_, f16>,
        residual: Residual<ArrayView2<'_, f16>>,
        y: ArrayViewMut2<'_, f16>,
        between: &mut Buffer,
        products: &mut cpu::Workspace,
    ) -> Result<(), Error> {
        self.down.call(x).run(between.shaped(x.nrows(), self.down.out_features()), products)?;
        self.up.call(between.view()).residual(residual).strategy(Strategy::Base).run(y, products)?;
        Ok(())
    }
}

/// A product with its bias.
fn linear(
    simd: Simd,
    tensor: &'static str,
    shape: [usize; 2],
    weights: &LinearWeights,
    activation: Option<Activation>,
) -> Result<cpu::Layer, Error> {
    expect_shape(tensor, &shape, weights.weight.shape())?;
    let mut epilogue = Epilogue::bias(weights.bias.clone());
    epilogue.activation = activation;
    Ok(cpu::Layer::with_simd(simd, weights.weight.view())?.with_epilogue(&epilogue)?)
}

impl Layer {
    /// Packs a layer without adapters for this machine.
    ///
    /// # Errors
    ///
    /// Those of [`Config::validated`], [`Error::Shape`], and [`Error::Library`] if no SIMD level can be had.
    pub fn new(config: Config, weights: &LayerWeights) -> Result<Self, Error> {
        Self::with_simd(Simd::detect()?, config, weights)
    }

    /// As [`new`](Self::new), for the given level.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_simd(simd: Simd, config: Config, weights: &LayerWeights) -> Result<Self, Error> {
        let Config { d, heads, mlp, .. } = config.validated()?;
        let LayerWeights { norm1, qkv, proj, norm2, up, down } = weights;
        Ok(Self {
            config,
            simd,
            norm1: LayerNorm::new(d, norm1)?,
            qkv: linear(simd, "qkv", [3 * d, d], qkv, None)?,
            split: None,
            qkv_weights: Arc::new(qkv.clone()),
            attention: CausalAttention::with_simd(simd, heads, config.head_dim())?,
            proj: linear(simd, "the attention's projection", [d, d], proj, None)?,
            norm2: LayerNorm::new(d, norm2)?,
            up: linear(simd, "the MLP's up projection", [mlp, d], up, Some(Activation::GeluTanh))?,
            down: linear(simd, "the MLP's down projection", [d, mlp], down, None)?,
            strategy: Strategy::Base,
            sequential: Sequential::None,
        })
    }

    /// The same layer with these adapters in place of what it has. Weights are shared, but for q, k and v where LoRA is on q and v
    /// only: these are packed apart.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] and [`Error::Library`] if adapters do not fit.
    pub fn with_adapters(&self, adapters: &AdapterWeights) -> Result<Self, Error> {
        let (simd, d) = (self.simd, self.config.d);
        let mut layer = self.clone();
        layer.strategy = Strategy::Base;
        layer.sequential = Sequential::None;
        layer.split = None;
        for product in [&mut layer.qkv, &mut layer.proj, &mut layer.up, &mut layer.down] {
            product.set_adapter(None)?;
        }
        match adapters {
            AdapterWeights::None => {}
            AdapterWeights::H { attention, mlp } => {
                layer.sequential = Sequential::H {
                    attention: Bottleneck::new(simd, d, attention)?,
                    mlp: Bottleneck::new(simd, d, mlp)?,
                };
            }
            AdapterWeights::L { norm, bottleneck } => {
                layer.sequential = Sequential::L {
                    norm: LayerNorm::new(d, norm)?,
                    bottleneck: Bottleneck::new(simd, d, bottleneck)?,
                };
            }
            AdapterWeights::Lora { fused, targets } => {
                layer.strategy = if *fused { Strategy::Fused } else { Strategy::Unfused };
                match targets {
                    LoraTargets::All { qkv, proj, up, down } => {
                        set_lora(&mut layer.qkv, qkv)?;
                        set_lora(&mut layer.proj, proj)?;
                        set_lora(&mut layer.up, up)?;
                        set_lora(&mut layer.down, down)?;
                    }
                    LoraTargets::QueryValue { query, value } => {
                        let mut split = self.split_qkv()?;
                        set_lora(&mut split[0], query)?;
                        set_lora(&mut split[2], value)?;
                        layer.split = Some(split);
                    }
                }
            }
        }
        Ok(layer)
    }

    fn split_qkv(&self) -> Result<[cpu::Layer; 3], Error> {
        let d = self.config.d;
        let part = |i: usize| {
            let rows = i * d..(i + 1) * d;
            let LinearWeights { weight, bias } = &*self.qkv_weights;
            let epilogue = Epilogue::bias(bias.slice(s![rows.clone()]).to_owned());
            cpu::Layer::with_simd(self.simd, weight.slice(s![rows, ..]))?.with_epilogue(&epilogue)
        };
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// Its sizes. (`layers` is the model's.)
    pub fn config(&self) -> Config {
        self.config
    }

    /// `x: [M, d]` → `y: [M, d]`, where M is a number of sequences of `seq_len` tokens, one after another. Rows of both may be any
    /// distance apart; columns are adjacent. Work is shared as [`fused_lora::cpu`] says; nothing is allocated once the workspace has
    /// grown.
    ///
    /// # Errors
    ///
    /// [`Error::SeqLen`], [`Error::Shape`], and [`Error::Library`] where M is no whole number of sequences or columns are apart.
    pub fn forward(
        &self,
        x: ArrayView2<'_, f16>,
        seq_len: usize,
        y: ArrayViewMut2<'_, f16>,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        self.forward_observed(x, seq_len, y, workspace, |_, _| {})
    }

    /// As [`forward`](Self::forward), and shows what stands between: for checking one stage after the other.
    ///
    /// # Errors
    ///
    /// As [`forward`](Self::forward).
    pub fn forward_observed(
        &self,
        x: ArrayView2<'_, f16>,
        seq_len: usize,
        y: ArrayViewMut2<'_, f16>,
        workspace: &mut Workspace,
        observe: impl FnMut(Stage, ArrayView2<'_, f16>),
    ) -> Result<(), Error> {
        check(&self.config, x, seq_len, y.view())?;
        self.run(x, seq_len, y, &mut workspace.buffers, observe)
    }

    /// [`forward_observed`](Self::forward_observed) of what has been [checked](check).
    pub(super) fn run(
        &self,
        x: ArrayView2<'_, f16>,
        seq_len: usize,
        mut y: ArrayViewMut2<'_, f16>,
        buffers: &mut Buffers,
        mut observe: impl FnMut(Stage, ArrayView2<'_, f16>),
    ) -> Result<(), Error> {
        let Buffers { products, norm, qkv, attention, middle, mlp, branch, bottleneck } = buffers;
        let (m, d, strategy) = (x.nrows(), self.config.d, self.strategy);

        norm_into(&self.norm1, x, norm);
        observe(Stage::Norm1, norm.view());

        let mut to = qkv.shaped(m, 3 * d);
        match &self.split {
            None => self.qkv.call(norm.view()).strategy(strategy).run(to, products)?,
            Some(layers) => {
                for (i, layer) in layers.iter().enumerate() {
                    let columns = to.slice_mut(s![.., i * d..(i + 1) * d]);
                    layer.call(norm.view()).strategy(strategy).run(columns, products)?;
                }
            }
        }
        observe(Stage::Qkv, qkv.view());

        self.attention.forward(qkv.view(), seq_len, attention.shaped(m, d), products)?;
        observe(Stage::Attention, attention.view());

        let to = middle.shaped(m, d);
        if let Sequential::H { attention: adapter, .. } = &self.sequential {
            self.proj.call(attention.view()).strategy(strategy).run(branch.shaped(m, d), products)?;
            let z = branch.view();
            adapter.forward(z, Residual::Sum(z, x), to, bottleneck, products)?;
        } else {
            self.proj
                .call(attention.view())
                .residual(Residual::Matrix(x))
                .strategy(strategy)
                .run(to, products)?;
        }
        observe(Stage::Middle, middle.view());

        norm_into(&self.norm2, middle.view(), norm);
        observe(Stage::Norm2, norm.view());

        self.up.call(norm.view()).strategy(strategy).run(mlp.shaped(m, self.config.mlp), products)?;
        observe(Stage::Mlp, mlp.view());

        if let Sequential::H { mlp: adapter, .. } = &self.sequential {
            self.down.call(mlp.view()).strategy(strategy).run(branch.shaped(m, d), products)?;
            let z = branch.view();
            adapter.forward(z, Residual::Sum(z, middle.view()), y, bottleneck, products)?;
        } else {
            let residual = Residual::Matrix(middle.view());
            self.down.call(mlp.view()).residual(residual).strategy(strategy).run(y.view_mut(), products)?;
            if let Sequential::L { norm: norm_of_adapter, bottleneck: adapter } = &self.sequential {
                norm_into(norm_of_adapter, y.view(), norm);
                adapter.forward(norm.view(), Residual::Output, y, bottleneck, products)?;
            }
        }
        Ok(())
    }
}

fn norm_into(norm: &LayerNorm, x: ArrayView2<'_, f16>, y: &mut Buffer) {
    let mut to = y.shaped(x.nrows(), x.ncols());
    norm.forward(x, to.as_slice_mut().expect("rows of a buffer are adjacent"));
}

fn set_lora(layer: &mut cpu::Layer, weights: &LoraWeights) -> Result<(), Error> {
    let LoraWeights { a, b, scale } = weights;
    layer.set_adapter(Some(cpu::Adapter::with_simd(layer.simd(), a.view(), b.view(), *scale)?))?;
    Ok(())
}

/// What every forward pass asks of its operands.
pub(super) fn check(
    config: &Config,
    x: ArrayView2<'_, f16>,
    seq_len: usize,
    y: ArrayView2<'_, f16>,
) -> Result<(), Error> {
    use fused_lora::{Error as LibraryError, Operand};
    if !(1..=SEQ_LEN_LIMIT).contains(&seq_len) {
        return Err(Error::SeqLen { seq_len, limit: SEQ_LEN_LIMIT });
    }
    expect_shape("x", &[x.nrows().max(1), config.d], x.shape())?;
    expect_shape("y", x.shape(), y.shape())?;
    if !x.nrows().is_multiple_of(seq_len) {
        return Err(LibraryError::Sequences { rows: x.nrows(), seq_len }.into());
    }
    for (operand, view) in [(Operand::X, x), (Operand::Y, y)] {
        // The stride of a single column says nothing.
        if config.d > 1 && view.strides()[1] != 1 {
            return Err(LibraryError::ColumnStride { operand, stride: view.strides()[1] }.into());
        }
    }
    Ok(())
}

//! The layer on the CPU: [`fused_lora::cpu`]'s products and attention, on the threads of the current rayon
//! pool. A SIMD level is the backend.

use std::ops::Range;

use fused_lora::{
    Epilogue, Error as LibraryError, Operand, Residual, Strategy,
    cpu::{self, CausalAttention, Simd},
};
use half::f16;
use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};

use crate::{
    backend::Backend,
    error::Error,
    layer_norm::LayerNorm,
    weights::{LinearWeights, LoraWeights, NormWeights},
    workspace::{Buffers, Scratch},
};

/// One layer, packed for the CPU.
pub type Layer = crate::layer::Layer<Simd>;
/// Layers, packed for the CPU.
pub type Model = crate::model::Model<Simd>;
/// Memory for a forward pass on the CPU. It grows as needed.
pub type Workspace = crate::workspace::Workspace<Simd>;

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Default for Workspace {
    fn default() -> Self {
        let empty = || Scratch::new(Vec::new());
        Self {
            buffers: Buffers {
                products: cpu::Workspace::default(),
                norm: empty(),
                qkv: empty(),
                attention: empty(),
                middle: empty(),
                mlp: empty(),
                bottleneck: empty(),
            },
            hidden: [empty(), empty()],
            rows_max: usize::MAX,
        }
    }
}

impl Backend for Simd {
    type Linear = cpu::Layer;
    type LayerNorm = LayerNorm;
    type Attention = CausalAttention;
    type Matrix<'a> = ArrayView2<'a, f16>;
    type MatrixMut<'a> = ArrayViewMut2<'a, f16>;
    type Memory = Vec<f16>;
    type Products = cpu::Workspace;
    type Stream = ();

    const RANK_GRANULE: usize = 1;

    fn linear(&self, weight: ArrayView2<'_, f16>, epilogue: &Epilogue) -> Result<cpu::Layer, Error> {
        Ok(cpu::Layer::with_simd(*self, weight)?.with_epilogue(epilogue)?)
    }

    fn out_features(linear: &cpu::Layer) -> usize {
        linear.out_features()
    }

    fn set_adapter(linear: &mut cpu::Layer, adapter: Option<&LoraWeights>) -> Result<(), Error> {
        let simd = linear.simd();
        let pack =
            |lora: &LoraWeights| cpu::Adapter::with_simd(simd, lora.a.view(), lora.b.view(), lora.scale);
        linear.set_adapter(adapter.map(pack).transpose()?)?;
        Ok(())
    }

    /// One product, whose weight is that of `qkv`.
    fn query_value(
        &self,
        qkv: &cpu::Layer,
        _: &LinearWeights,
        adapters: [&LoraWeights; 2],
    ) -> Result<Vec<cpu::Layer>, Error> {
        let (simd, n) = (qkv.simd(), qkv.out_features());
        let on = |LoraWeights { a, b, scale }: &LoraWeights, columns| {
            cpu::Adapter::on_columns(simd, a.view(), b.view(), *scale, columns, n)
        };
        let [query, value] = adapters;
        let adapter = on(query, 0..n / 3)?.beside(&on(value, n - n / 3..n)?)?;
        Ok(vec![qkv.clone().with_adapter(adapter)?])
    }

    fn layer_norm(&self, weights: &NormWeights) -> Result<LayerNorm, Error> {
        Ok(LayerNorm::new(weights))
    }

    fn attention(&self, heads: usize, head_dim: usize) -> Result<CausalAttention, Error> {
        Ok(CausalAttention::with_simd(*self, heads, head_dim)?)
    }

    fn shapes(x: &ArrayView2<'_, f16>, y: &ArrayViewMut2<'_, f16>) -> [[usize; 2]; 2] {
        [x.dim().into(), y.dim().into()]
    }

    fn check_columns(x: &ArrayView2<'_, f16>, y: &ArrayViewMut2<'_, f16>) -> Result<(), Error> {
        for (operand, columns, strides) in
            [(Operand::X, x.ncols(), x.strides()), (Operand::Y, y.ncols(), y.strides())]
        {
            // The stride of a single column says nothing.
            if columns > 1 && strides[1] != 1 {
                return Err(LibraryError::ColumnStride { operand, stride: strides[1] }.into());
            }
        }
        Ok(())
    }

    fn reborrow<'a>(x: &'a ArrayView2<'_, f16>) -> ArrayView2<'a, f16> {
        x.view()
    }

    fn matrix(memory: &Vec<f16>, rows: usize, columns: usize) -> Result<ArrayView2<'_, f16>, Error> {
        let memory = &memory[..rows * columns];
        Ok(ArrayView2::from_shape((rows, columns), memory).expect("the memory has that length"))
    }

    fn matrix_mut(
        memory: &mut Vec<f16>,
        rows: usize,
        stride: usize,
        columns: Range<usize>,
    ) -> Result<ArrayViewMut2<'_, f16>, Error> {
        let len = rows * stride;
        if memory.len() < len {
            memory.resize(len, f16::ZERO);
        }
        let whole = ArrayViewMut2::from_shape((rows, stride), &mut memory[..len]);
        Ok(whole.expect("the memory has that length").slice_move(s![.., columns]))
    }

    fn to_array(memory: &Vec<f16>, rows: usize, columns: usize) -> Result<Array2<f16>, Error> {
        Ok(Self::matrix(memory, rows, columns)?.to_owned())
    }

    fn run_linear(
        linear: &cpu::Layer,
        strategy: Strategy,
        x: ArrayView2<'_, f16>,
        residual: Residual<ArrayView2<'_, f16>>,
        y: ArrayViewMut2<'_, f16>,
        products: &mut cpu::Workspace,
        _: &(),
    ) -> Result<(), Error> {
        Ok(linear.call(x).residual(residual).strategy(strategy).run(y, products)?)
    }

    fn run_layer_norm(
        norm: &LayerNorm,
        x: ArrayView2<'_, f16>,
        mut y: ArrayViewMut2<'_, f16>,
        _: &(),
    ) -> Result<(), Error> {
        norm.forward(x, y.as_slice_mut().expect("y has no gaps"));
        Ok(())
    }

    fn run_attention(
        attention: &CausalAttention,
        qkv: ArrayView2<'_, f16>,
        seq_len: usize,
        y: ArrayViewMut2<'_, f16>,
        products: &mut cpu::Workspace,
        _: &(),
    ) -> Result<(), Error> {
        Ok(attention.forward(qkv, seq_len, y, products)?)
    }
}

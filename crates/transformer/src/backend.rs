//! The operations that a layer is made of.

use std::{fmt, ops::Range};

use fused_lora::{Epilogue, Residual, Strategy};
use half::f16;
use ndarray::{Array2, ArrayView2};

use crate::{
    error::Error,
    weights::{LinearWeights, LoraWeights, NormWeights},
};

/// Where a layer runs: a CPU at a SIMD level, or a device. Its operations are called in the order of the
/// layer, each on whole matrices of f16, and do not allocate once the memory that they write to has its size.
/// Their errors are those of the library functions that they call.
pub trait Backend: Clone + fmt::Debug {
    /// A product `x Wᵀ` with its [epilogue](Epilogue), with or without a LoRA adapter.
    type Linear: Clone + fmt::Debug;
    /// A LayerNorm with its weights.
    type LayerNorm: Clone + fmt::Debug;
    /// Causal attention of a number of heads.
    type Attention: Clone + fmt::Debug;
    /// A matrix that is read: any row stride, columns adjacent.
    type Matrix<'a>: Copy;
    /// A matrix that is written: any row stride, columns adjacent.
    type MatrixMut<'a>;
    /// Memory of f16 for one matrix.
    type Memory: fmt::Debug;
    /// Memory that products and attention need in addition to their operands.
    type Products: fmt::Debug;
    /// Where calls are queued: `()` where they run at once.
    type Stream;

    /// What the rank of a bottleneck is rounded up to, with zeros.
    const RANK_GRANULE: usize;
    /// A product with `weight: [N, K]`.
    fn linear(&self, weight: ArrayView2<'_, f16>, epilogue: &Epilogue) -> Result<Self::Linear, Error>;

    /// N: the number of output features.
    fn out_features(linear: &Self::Linear) -> usize;

    /// Sets or replaces the adapter of a product, on all columns of y.
    fn set_adapter(linear: &mut Self::Linear, adapter: Option<&LoraWeights>) -> Result<(), Error>;

    /// The products that compute q, k and v, side by side, with one adapter on q and one on v. `qkv` is the
    /// product without an adapter, made from `weights`.
    fn query_value(
        &self,
        qkv: &Self::Linear,
        weights: &LinearWeights,
        adapters: [&LoraWeights; 2],
    ) -> Result<Vec<Self::Linear>, Error>;

    /// A LayerNorm with these weights, which have the same length.
    fn layer_norm(&self, weights: &NormWeights) -> Result<Self::LayerNorm, Error>;

    /// Attention with `heads` heads of `head_dim` columns each.
    fn attention(&self, heads: usize, head_dim: usize) -> Result<Self::Attention, Error>;

    /// Rows and columns of x and of y.
    fn shapes(x: &Self::Matrix<'_>, y: &Self::MatrixMut<'_>) -> [[usize; 2]; 2];

    /// Checks that columns are adjacent, if the types do not guarantee it.
    fn check_columns(x: &Self::Matrix<'_>, y: &Self::MatrixMut<'_>) -> Result<(), Error>;

    /// The same matrix, borrowed for a shorter time.
    fn reborrow<'a>(x: &'a Self::Matrix<'_>) -> Self::Matrix<'a>;

    /// The memory's first `rows` · `columns` elements as a matrix without gaps.
    fn matrix(memory: &Self::Memory, rows: usize, columns: usize) -> Result<Self::Matrix<'_>, Error>;

    /// Some columns of the memory's first `rows` · `stride` elements. On the CPU, memory grows to that size.
    fn matrix_mut(
        memory: &mut Self::Memory,
        rows: usize,
        stride: usize,
        columns: Range<usize>,
    ) -> Result<Self::MatrixMut<'_>, Error>;

    /// Copies [`matrix`](Self::matrix) to the host after all queued work has run.
    fn to_array(memory: &Self::Memory, rows: usize, columns: usize) -> Result<Array2<f16>, Error>;

    /// `y = linear(x) + residual`, `x: [M, K]`, y and the residual's matrices `[M, N]`.
    fn run_linear(
        linear: &Self::Linear,
        strategy: Strategy,
        x: Self::Matrix<'_>,
        residual: Residual<Self::Matrix<'_>>,
        y: Self::MatrixMut<'_>,
        products: &mut Self::Products,
        stream: &Self::Stream,
    ) -> Result<(), Error>;

    /// `y = LayerNorm(x)`, x and y `[M, d]`, y without gaps.
    fn run_layer_norm(
        norm: &Self::LayerNorm,
        x: Self::Matrix<'_>,
        y: Self::MatrixMut<'_>,
        stream: &Self::Stream,
    ) -> Result<(), Error>;

    /// Causal attention of each sequence of `seq_len` rows and each head, `qkv: [M, 3 d]` without gaps, `y:
    /// [M, d]`.
    fn run_attention(
        attention: &Self::Attention,
        qkv: Self::Matrix<'_>,
        seq_len: usize,
        y: Self::MatrixMut<'_>,
        products: &mut Self::Products,
        stream: &Self::Stream,
    ) -> Result<(), Error>;
}

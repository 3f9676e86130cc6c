use half::f16;
use ndarray::Array2;

use crate::{
    backend::Backend,
    config::{Config, SEQ_LEN_LIMIT},
    error::{Error, expect_shape},
};

/// Memory for `Model::forward` and `Layer::forward`: the intermediate results, and the workspace of the
/// products.
///
/// It belongs to the caller, who uses it for one call at a time. On the CPU it can be used with any model and
/// grows to the size of the largest call. On a device it can be used with any model of the sizes that it was
/// made for, one call after another on one stream: the first call with a LoRA binds it to its stream. It does
/// not grow there, so that calls can be captured.
#[derive(Debug)]
pub struct Workspace<B: Backend> {
    pub(crate) buffers: Buffers<B>,
    /// What goes from layer to layer, in turn.
    pub(crate) hidden: [Scratch<B>; 2],
    /// The most rows that x may have.
    pub(crate) rows_max: usize,
}

/// The buffers of one layer.
#[derive(Debug)]
pub(crate) struct Buffers<B: Backend> {
    pub(crate) products: B::Products,
    /// Any LayerNorm's y: `[M, d]`.
    pub(crate) norm: Scratch<B>,
    /// `[M, 3 d]`; behind attention, what a sequential adapter reads and adds to: `[M, d]`.
    pub(crate) qkv: Scratch<B>,
    /// `[M, d]`
    pub(crate) attention: Scratch<B>,
    /// The residual stream between attention and MLP: `[M, d]`.
    pub(crate) middle: Scratch<B>,
    /// `[M, mlp]`
    pub(crate) mlp: Scratch<B>,
    /// `[M, r]`
    pub(crate) bottleneck: Scratch<B>,
}

impl<B: Backend> Workspace<B> {
    /// Checks what every forward pass asks of its operands.
    pub(crate) fn check(
        &self,
        config: &Config,
        x: &B::Matrix<'_>,
        seq_len: usize,
        y: &B::MatrixMut<'_>,
    ) -> Result<(), Error> {
        if !(1..=SEQ_LEN_LIMIT).contains(&seq_len) {
            return Err(Error::SeqLen { seq_len, limit: SEQ_LEN_LIMIT });
        }
        let [x_shape, y_shape] = B::shapes(x, y);
        let [rows, _] = x_shape;
        expect_shape("x", &[rows.max(1), config.d], &x_shape)?;
        expect_shape("y", &x_shape, &y_shape)?;
        if !rows.is_multiple_of(seq_len) {
            return Err(fused_lora::Error::Sequences { rows, seq_len }.into());
        }
        if rows > self.rows_max {
            return Err(Error::WorkspaceRows { rows, limit: self.rows_max });
        }
        B::check_columns(x, y)
    }
}

/// Memory for a matrix, and the matrix's shape.
#[derive(Debug)]
pub struct Scratch<B: Backend> {
    memory: B::Memory,
    rows: usize,
    columns: usize,
}

impl<B: Backend> Scratch<B> {
    pub(crate) fn new(memory: B::Memory) -> Self {
        Self { memory, rows: 0, columns: 0 }
    }

    /// Gives the matrix a shape, and all of it to write.
    pub(crate) fn shaped(&mut self, rows: usize, columns: usize) -> Result<B::MatrixMut<'_>, Error> {
        self.columns_of(rows, columns, 0..columns)
    }

    /// Gives the matrix a shape, and some of its columns to write.
    pub(crate) fn columns_of(
        &mut self,
        rows: usize,
        columns: usize,
        written: std::ops::Range<usize>,
    ) -> Result<B::MatrixMut<'_>, Error> {
        (self.rows, self.columns) = (rows, columns);
        B::matrix_mut(&mut self.memory, rows, columns, written)
    }

    /// The matrix that was written.
    pub(crate) fn view(&self) -> Result<B::Matrix<'_>, Error> {
        B::matrix(&self.memory, self.rows, self.columns)
    }

    /// A copy of the matrix on the host. On a device this waits until it has been written.
    ///
    /// # Errors
    ///
    /// On a device, what the driver reports.
    pub fn to_array(&self) -> Result<Array2<f16>, Error> {
        B::to_array(&self.memory, self.rows, self.columns)
    }
}

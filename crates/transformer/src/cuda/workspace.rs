use fused_lora::cuda::{self, Buffer, Device, Error as CudaError, Matrix, MatrixMut, workspace_size};

use super::bottleneck::padded_rank;
use crate::{Config, Error};

/// Device memory of [`Model::forward`](super::Model::forward) and [`Layer::forward`](super::Layer::forward): what stands between two
/// launches, and the products' own.
///
/// It serves any model of these sizes, one call after another on one stream: the first call with a LoRA binds it to its stream.
/// It does not grow, so that calls can be captured.
#[derive(Debug)]
pub struct Workspace {
    pub(super) buffers: Buffers,
    /// What goes from layer to layer, in turn.
    pub(super) hidden: [Scratch; 2],
    pub(super) m_max: usize,
}

/// Of one layer.
#[derive(Debug)]
pub(super) struct Buffers {
    pub(super) products: cuda::Workspace,
    /// Any LayerNorm's y: `[M, d]`.
    pub(super) norm: Scratch,
    /// `[M, 3 d]`
    pub(super) qkv: Scratch,
    /// `[M, d]`
    pub(super) attention: Scratch,
    /// The residual stream between attention and MLP: `[M, d]`.
    pub(super) middle: Scratch,
    /// `[M, mlp]`
    pub(super) mlp: Scratch,
    /// What a sequential adapter reads, and adds to: `[M, d]`.
    pub(super) branch: Scratch,
    /// `[M, r]`
    pub(super) bottleneck: Scratch,
}

impl Workspace {
    /// For calls of up to `m_max` rows of models of these widths, with adapters of ranks up to `rank_max`:
    /// `2 (7 d + mlp + 2 r) m_max` bytes and a little more; two more `[m_max, d]` where there is more than one layer.
    ///
    /// # Errors
    ///
    /// Those of [`Config::validated`], and [`Error::Cuda`] without the memory.
    pub fn new(device: &Device, config: Config, m_max: usize, rank_max: usize) -> Result<Self, Error> {
        let Config { d, mlp, layers, .. } = config.validated()?;
        let scratch = |columns: usize| Scratch::new(device, m_max.saturating_mul(columns));
        // One layer passes nothing on.
        let hidden = || scratch(if layers > 1 { d } else { 0 });
        Ok(Self {
            buffers: Buffers {
                products: cuda::Workspace::new(device, workspace_size(m_max, rank_max))?,
                norm: scratch(d)?,
                qkv: scratch(d.saturating_mul(3))?,
                attention: scratch(d)?,
                middle: scratch(d)?,
                mlp: scratch(mlp)?,
                branch: scratch(d)?,
                bottleneck: scratch(padded_rank(rank_max))?,
            },
            hidden: [hidden()?, hidden()?],
            m_max,
        })
    }
}

/// A buffer, and the shape of what it holds.
#[derive(Debug)]
pub(super) struct Scratch {
    buffer: Buffer,
    shape: (usize, usize),
}

impl Scratch {
    fn new(device: &Device, len: usize) -> Result<Self, CudaError> {
        // Zeros only so that a mistake would be the same each time.
        Ok(Self { buffer: Buffer::zeroed(device, len)?, shape: (0, 0) })
    }

    /// Gives it a shape, and all of it to write.
    pub(super) fn shaped(&mut self, rows: usize, columns: usize) -> Result<MatrixMut<'_>, CudaError> {
        self.shape = (rows, columns);
        MatrixMut::new(&mut self.buffer, rows, columns)
    }

    /// Some of its columns, to write; all of it is the shape that [`shaped`](Self::shaped) gave it.
    pub(super) fn columns(&mut self, first: usize, columns: usize) -> Result<MatrixMut<'_>, CudaError> {
        let (rows, stride) = self.shape;
        MatrixMut::strided(&mut self.buffer, first, rows, columns, stride)
    }

    /// What was written.
    pub(super) fn view(&self) -> Result<Matrix<'_>, CudaError> {
        let (rows, columns) = self.shape;
        Matrix::new(&self.buffer, rows, columns)
    }

    pub(super) fn buffer(&self) -> &Buffer {
        &self.buffer
    }
}

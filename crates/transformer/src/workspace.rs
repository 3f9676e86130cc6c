use half::f16;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Scratch memory of [`Model::forward`](crate::Model::forward) and [`Layer::forward`](crate::Layer::forward): what stands between two
/// products, and theirs.
///
/// It belongs to the caller, serves any model, one call at a time, and grows to what the largest call has needed.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(crate) buffers: Buffers,
    /// What goes from layer to layer, in turn.
    pub(crate) hidden: [Buffer; 2],
}

/// Of one layer.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) products: fused_lora::cpu::Workspace,
    /// Either LayerNorm's y: `[M, d]`.
    pub(crate) norm: Buffer,
    /// `[M, 3 d]`
    pub(crate) qkv: Buffer,
    /// `[M, d]`
    pub(crate) attention: Buffer,
    /// The residual stream between attention and MLP: `[M, d]`.
    pub(crate) middle: Buffer,
    /// `[M, mlp]`
    pub(crate) mlp: Buffer,
    /// What a sequential adapter reads, and adds to: `[M, d]`.
    pub(crate) branch: Buffer,
    /// `[M, r]`
    pub(crate) bottleneck: Buffer,
}

impl Workspace {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A matrix whose memory only grows.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    memory: Vec<f16>,
    shape: (usize, usize),
}

impl Buffer {
    /// Gives it a shape, and all of it to write. Allocates only where it has never been that large.
    pub(crate) fn shaped(&mut self, rows: usize, columns: usize) -> ArrayViewMut2<'_, f16> {
        self.shape = (rows, columns);
        if self.memory.len() < rows * columns {
            self.memory.resize(rows * columns, f16::ZERO);
        }
        ArrayViewMut2::from_shape(self.shape, &mut self.memory[..rows * columns])
            .expect("the memory has that length")
    }

    /// What was written.
    pub(crate) fn view(&self) -> ArrayView2<'_, f16> {
        let (rows, columns) = self.shape;
        ArrayView2::from_shape(self.shape, &self.memory[..rows * columns])
            .expect("the memory has that length")
    }
}

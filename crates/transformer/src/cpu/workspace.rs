use half::f16;
use ndarray::{ArrayView2, ArrayViewMut2};

/// Scratch memory of [`Model::forward`](super::Model::forward) and [`Layer::forward`](super::Layer::forward): what stands between two
/// products, and theirs.
///
/// It belongs to the caller, serves any model, one call at a time, and grows to what the largest call has needed.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) buffers: Buffers,
    /// What goes from layer to layer, in turn.
    pub(super) hidden: [Buffer; 2],
}

/// Of one layer.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) products: fused_lora::cpu::Workspace,
    /// Either LayerNorm's y: `[M, d]`.
    pub(super) norm: Buffer,
    /// `[M, 3 d]`
    pub(super) qkv: Buffer,
    /// `[M, d]`
    pub(super) attention: Buffer,
    /// The residual stream between attention and MLP: `[M, d]`.
    pub(super) middle: Buffer,
    /// `[M, mlp]`
    pub(super) mlp: Buffer,
    /// What a sequential adapter reads, and adds to: `[M, d]`.
    pub(super) branch: Buffer,
    /// `[M, r]`
    pub(super) bottleneck: Buffer,
}

impl Workspace {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
}

/// A matrix whose memory only grows.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    memory: Vec<f16>,
    shape: (usize, usize),
}

impl Buffer {
    /// Gives it a shape, and all of it to write. Allocates only where it has never been that large.
    pub(super) fn shaped(&mut self, rows: usize, columns: usize) -> ArrayViewMut2<'_, f16> {
        self.shape = (rows, columns);
        if self.memory.len() < rows * columns {
            self.memory.resize(rows * columns, f16::ZERO);
        }
        ArrayViewMut2::from_shape(self.shape, &mut self.memory[..rows * columns])
            .expect("the memory has that length")
    }

    /// What was written.
    pub(super) fn view(&self) -> ArrayView2<'_, f16> {
        let (rows, columns) = self.shape;
        ArrayView2::from_shape(self.shape, &self.memory[..rows * columns])
            .expect("the memory has that length")
    }
}

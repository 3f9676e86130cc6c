use super::buffer::Buffer;

/// Scratch memory for [`Layer::forward`](super::Layer::forward): packed rows of x and h, and f32 sums
/// between K blocks.
///
/// It belongs to the caller, serves any layer, one call at a time, and grows to what the largest call has
/// needed; after the first call of a size, `forward` allocates nothing.
#[derive(Default)]
pub struct Workspace {
    /// One for each thread.
    pub(crate) slots: Vec<Slot>,
    /// Where all threads work on the same rows.
    pub(crate) shared: Block,
    /// h of the unfused strategy: `[M, r]`.
    pub(crate) h: Buffer,
}

/// What one thread works in.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) block: Block,
    /// f32 sums between K blocks, tile by tile.
    pub(crate) partial: Buffer,
}

/// A block of rows, packed.
#[derive(Default)]
pub(crate) struct Block {
    /// x: `[tile][k][PITCH]`, f32.
    pub(crate) x: Buffer,
    /// h as the shrink rounds it: `[row][r]`, f16.
    pub(crate) h: Buffer,
    /// h as the expand reads it: `[tile][r][PITCH]`, f32.
    pub(crate) packed_h: Buffer,
}

impl Workspace {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("threads", &self.slots.len()).finish_non_exhaustive()
    }
}

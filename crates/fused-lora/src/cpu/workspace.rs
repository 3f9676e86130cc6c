use super::buffer::Buffer;

/// Scratch memory for [calls](super::Call) and
/// [`CausalAttention::forward`](super::CausalAttention::forward): packed rows of x and h, and f32 sums
/// between K blocks.
///
/// It belongs to the caller and can be used with any layer, one call at a time. It grows to the size of the
/// largest call; after the first call of a size, later calls of that size do not allocate.
#[derive(Default)]
pub struct Workspace {
    /// One for each thread.
    pub(crate) slots: Vec<Slot>,
    /// Where all threads work on the same rows.
    pub(crate) shared: Block,
    /// h of the unfused strategy, `[M, r]`, and in parts, if the adapter is: `[M, 3r]`.
    pub(crate) h: Buffer,
    pub(crate) split_h: Buffer,
    /// Its `x Wᵀ + bias`, where y must not be written yet: `[M, N]`.
    pub(crate) base: Buffer,
}

/// The memory of one thread.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) block: Block,
    /// f32 sums between K blocks, tile by tile.
    pub(crate) partial: Buffer,
    pub(crate) attention: Scratch,
}

impl Slot {
    /// One for each thread, made where there are fewer.
    pub(crate) fn first(slots: &mut Vec<Slot>, threads: usize) -> &mut [Slot] {
        if slots.len() < threads {
            slots.resize_with(threads, Slot::default);
        }
        &mut slots[..threads]
    }
}

/// A block of rows, packed.
#[derive(Default)]
pub(crate) struct Block {
    /// x: `[tile][step][rows of the tile]`
    pub(crate) x: Buffer,
    /// h as the shrink rounds it.
    pub(crate) h: Buffer,
    /// In parts, if the adapter is.
    pub(crate) split_h: Buffer,
    /// As the expand reads it.
    pub(crate) packed_h: Buffer,
}

/// The memory of one task of attention.
#[derive(Default)]
pub(crate) struct Scratch {
    /// `[key tile][dim][rows of the tile]`, f32
    pub(crate) keys: Buffer,
    /// `[dim tile][key][rows of the tile]`, f32
    pub(crate) values: Buffer,
    /// `[dim][query]`, a panel
    pub(crate) queries: Buffer,
    /// `[key][query]`, f32
    pub(crate) scores: Buffer,
    /// `[key][query]`, a panel
    pub(crate) weights: Buffer,
    /// `[dim][query]`, f32
    pub(crate) out: Buffer,
    /// `[2][query]`, f32: the largest score of each query so far, and the sum of its weights.
    pub(crate) stats: Buffer,
    /// `[dim]`, f32
    pub(crate) row: Buffer,
}

impl Workspace {
    /// An empty workspace.
    pub fn new() -> Self {
        Self::default()
    }
}

impl std::fmt::Debug for Workspace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workspace").field("threads", &self.slots.len()).finish_non_exhaustive()
    }
}

//! Tile constants, for kernels and launchers alike.

/// What a rank is rounded up to in the slabs and in h: the K of one `mma`.
pub const RANK_GRANULE: u32 = 16;

/// Lanes of a warp.
pub const WARP: u32 = 32;

/// Bytes by which one thread tells the others of its CTA what it found out.
pub const BOARD_BYTES: u32 = 64;

/// Queries of a work item of attention, and keys of a step.
pub const ATTENTION_BLOCK: u32 = 64;

/// Threads of a CTA of attention: a warp for each 16 queries.
pub const ATTENTION_THREADS: u32 = ATTENTION_BLOCK / 16 * WARP;

/// Rows of a CTA of LayerNorm, each a warp's.
pub const LAYER_NORM_ROWS: u32 = 4;

/// How a product is cut into work items.
pub trait Blocks {
    /// Rows of x and y in a tile.
    const BLOCK_M: u32;
    /// Rows of W, columns of y.
    const BLOCK_N: u32;
    /// Columns of h in a work item of the shrink.
    const H_COLUMNS: u32;
}

/// How a CTA cuts a product into tiles, and its warps a tile.
pub trait Tile: Blocks {
    /// Slots of the ring of shared memory: how many K steps are under way, less one.
    const STAGES: u32;
    /// Warps along M.
    const WARPS_M: u32;
    /// Warps along N.
    const WARPS_N: u32;
    /// Columns of h that every CTA computes for itself beside its tile, 0 where h is shared.
    const H: u32;

    /// Steps of K per slot: two `mma`. 64 bytes a row, so that a ring of four slots of 128 × 128 leaves room
    /// for two CTAs on an SM.
    const BLOCK_K: u32 = 32;
    /// Threads of a CTA.
    const THREADS: u32 = Self::WARPS_M * Self::WARPS_N * WARP;
    /// Bytes of one slot: rows of x, W and, with H, A.
    const SLOT_BYTES: u32 = (Self::BLOCK_M + Self::BLOCK_N + Self::H) * Self::BLOCK_K * 2;
    /// Bytes of the ring.
    const RING_BYTES: u32 = Self::SLOT_BYTES * Self::STAGES;
    /// Bytes of h and B beside the ring.
    const H_BYTES: u32 = (Self::BLOCK_M + Self::BLOCK_N) * Self::H * 2;
    /// Dynamic shared memory of a CTA: ring, h and B, board.
    const SHARED_BYTES: u32 = Self::RING_BYTES + Self::H_BYTES + BOARD_BYTES;
}

macro_rules! tiles {
    ($($(#[$attr:meta])* $name:ident: $m:literal x $n:literal, $stages:literal stages,
        $wm:literal x $wn:literal warps, h $h:literal;)*) => {
        $(
            $(#[$attr])*
            #[derive(Clone, Copy, Debug)]
            pub enum $name {}
            impl Blocks for $name {
                const BLOCK_M: u32 = $m;
                const BLOCK_N: u32 = $n;
                const H_COLUMNS: u32 = $n;
            }
            impl Tile for $name {
                const STAGES: u32 = $stages;
                const WARPS_M: u32 = $wm;
                const WARPS_N: u32 = $wn;
                const H: u32 = $h;
            }
            const _: () = assert_sound::<$name>();
        )*
    };
}

/// What every kernel takes for granted of its tile.
const fn assert_sound<T: Tile>() {
    assert!(T::BLOCK_M % (16 * T::WARPS_M) == 0, "a warp's rows are whole fragments");
    assert!(T::BLOCK_N % (16 * T::WARPS_N) == 0, "a warp's columns are loaded as pairs of fragments");
    assert!(T::H % (8 * T::WARPS_N) == 0, "every warp of a row makes its share of h");
    assert!(T::STAGES >= 2, "one step is computed while another is loaded");
    assert!(T::SHARED_BYTES <= 99 * 1024, "what compute capability 8.6, 8.9 and 12.0 allow a CTA");
    assert!(T::BLOCK_M * T::BLOCK_K / 8 % T::THREADS == 0 && T::BLOCK_N * T::BLOCK_K / 8 % T::THREADS == 0);
}

tiles! {
    /// The most arithmetic per byte: 128 × 256, eight warps of 64 × 64, one CTA on an SM. For many tokens and
    /// large N.
    T128x256: 128 x 256, 3 stages, 2 x 4 warps, h 0;
    /// Four warps of 64 × 64, two CTAs on an SM.
    T128x128: 128 x 128, 4 stages, 2 x 2 warps, h 0;
    /// For few tokens.
    T64x128: 64 x 128, 4 stages, 2 x 2 warps, h 0;
    /// For few tokens and columns: the most CTAs.
    T64x64: 64 x 64, 4 stages, 2 x 2 warps, h 0;
    /// `T128x128` with 16 columns of h.
    T128x128h16: 128 x 128, 4 stages, 2 x 2 warps, h 16;
    /// `T64x128` with 16 columns of h.
    T64x128h16: 64 x 128, 4 stages, 2 x 2 warps, h 16;
    /// `T64x64` with 16 columns of h.
    T64x64h16: 64 x 64, 4 stages, 2 x 2 warps, h 16;
    /// `T64x64` with 32 columns of h.
    T64x64h32: 64 x 64, 4 stages, 2 x 2 warps, h 32;
}

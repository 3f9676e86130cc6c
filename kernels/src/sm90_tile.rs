//! Tile constants, and how a CTA's shared memory is laid out.

use crate::tile::{Blocks, RANK_GRANULE};

/// Threads of a warpgroup.
pub const WARPGROUP: u32 = 128;
/// Rows of a consumer warpgroup: the M of `wgmma`.
pub const WARPGROUP_ROWS: u32 = 64;
/// Columns of x, W, A, h and B in a slot: one row of the 128-byte swizzle.
pub const BLOCK_K: u32 = 64;
/// Bytes of a row of a slot.
pub const ROW_BYTES: u32 = BLOCK_K * 2;
/// Columns of h in a panel: the K of one `wgmma`.
pub const PANEL: u32 = RANK_GRANULE;
/// Bytes of a warpgroup's rows of a panel.
pub const PANEL_BYTES: u32 = WARPGROUP_ROWS * PANEL * 2;
/// Most CTAs of a cluster that every GPU of compute capability 9.0 takes.
pub const MAX_CLUSTER: u32 = 8;
/// Most CTAs that share the K of h: all have room for the sums of each.
pub const MAX_SLICES: u32 = 4;
/// Most steps of the expand in a tile of y: what the board has room for.
pub const MAX_CHUNKS: u32 = 64;
/// Work items on the board at a time: one that is worked on, one that is being loaded for.
pub const BOARDS: u32 = 2;

/// Registers that the producer's warpgroup keeps.
pub const PRODUCER_REGISTERS: u32 = 56;
/// Registers of an SM.
const SM_REGISTERS: u32 = 64 * 1024;
/// Registers that a consumer needs beside its sums: addresses, descriptors, phases, fragments on their way
/// out.
pub const OTHER_REGISTERS: u32 = 40;
/// Bytes of shared memory that compute capability 9.0 allows a CTA.
const MAX_SHARED: u32 = 227 * 1024;

/// How a CTA cuts a product into tiles.
///
/// A producer warpgroup, one thread of which starts all copies, and a consumer warpgroup for each 64 rows.
pub trait Tile: Blocks + Copy {
    /// Columns of h that every CTA makes beside its tile of y; 0 where it makes none.
    const H: u32;
    /// Columns of h that a row tile may have with [`H`](Self::H): all of them lie in shared memory.
    const MAX_RANK: u32;
    /// Slots of the ring.
    const STAGES: u32;
    /// Boxes of y that a warpgroup stages at a time; 0 where y is not stored in boxes.
    const STAGING: u32;

    /// Consumer warpgroups.
    const CONSUMERS: u32 = Self::BLOCK_M / WARPGROUP_ROWS;
    /// Threads of a CTA.
    const THREADS: u32 = (Self::CONSUMERS + 1) * WARPGROUP;
    /// Panels of h that a CTA makes.
    const PANELS: u32 = Self::H / PANEL;
    /// Whether each CTA of a cluster makes all columns of h, of its own steps of K, and all add them up; else
    /// each makes its own columns of all of K.
    const SLICED: bool = Self::H > 0 && Self::MAX_RANK == Self::H;
    /// Panels of h that a row tile may have.
    const MAX_PANELS: u32 = Self::MAX_RANK / PANEL;
    /// Whether W's and A's rows are one operand of `wgmma`; else A is multiplied apart, and x is read twice.
    const ONE_OPERAND: bool = Self::BLOCK_N + Self::H <= 256;
    /// Last steps of the base in which A is multiplied ahead of W. One slot is left to load the first step of
    /// the expand.
    const LATE_STEPS: u32 = Self::STAGES - 1;
    /// Fewest steps of the base: with h, one that is multiplied with W and A, and one late. A step behind K
    /// is zeros.
    const FEWEST_STEPS: u32 = if Self::H > 0 { 2 } else { 1 };
    /// Columns of y in a box.
    const BOX_N: u32 = if Self::BLOCK_N < BLOCK_K { Self::BLOCK_N } else { BLOCK_K };

    /// Where W's rows start in a slot, behind x's; A's follow them without a gap.
    const W_OFFSET: u32 = Self::BLOCK_M * ROW_BYTES;
    /// Where A's rows start.
    const A_OFFSET: u32 = Self::W_OFFSET + Self::BLOCK_N * ROW_BYTES;
    /// Bytes of a slot.
    const SLOT_BYTES: u32 = Self::A_OFFSET + Self::H * ROW_BYTES;
    /// Bytes of a warpgroup's box of y.
    const BOX_BYTES: u32 = WARPGROUP_ROWS * Self::BOX_N * 2;

    /// Where the staging of y starts, behind the ring.
    const STAGING_OFFSET: u32 = Self::SLOT_BYTES * Self::STAGES;
    /// Where h starts: a warpgroup's panels, then the next one's.
    const H_OFFSET: u32 = Self::STAGING_OFFSET + Self::BOX_BYTES * Self::STAGING * Self::CONSUMERS;
    /// Whether the CTAs of a cluster share a tile's K.
    const SPLIT_K: bool = Self::STAGING == 0;
    /// Bytes of a warpgroup's f32 sums, where they go from CTA to CTA: of y, or of h.
    const PARTIAL_BYTES: u32 = if Self::SPLIT_K {
        WARPGROUP_ROWS * Self::BLOCK_N * 4
    } else if Self::SLICED {
        WARPGROUP_ROWS * Self::H * 4
    } else {
        0
    };
    /// Places for them: of y, a warpgroup's own and those it is sent; of h, one for each CTA.
    const PARTIALS: u32 = if Self::SPLIT_K { 2 } else { MAX_SLICES };
    /// Where these start: a warpgroup's, then the next one's.
    const PARTIALS_OFFSET: u32 = Self::H_OFFSET + PANEL_BYTES * Self::MAX_PANELS * Self::CONSUMERS;
    /// Where the boards start.
    const BOARD_OFFSET: u32 = Self::PARTIALS_OFFSET + Self::PARTIALS * Self::PARTIAL_BYTES * Self::CONSUMERS;
    /// Bytes of a board, whole lines of 16.
    const BOARD_BYTES: u32 = (32 + 16 * Self::ENTRIES + 4 * Self::CHUNKS).next_multiple_of(16);
    /// Panels on a board.
    const ENTRIES: u32 = if Self::PANELS > 0 { Self::PANELS } else { 1 };
    /// Steps of the expand on a board.
    const CHUNKS: u32 = if Self::PANELS > 0 { Self::MAX_PANELS } else { MAX_CHUNKS };
    /// Where the barriers start.
    const BARRIER_OFFSET: u32 = Self::BOARD_OFFSET + Self::BOARD_BYTES * BOARDS;
    /// Dynamic shared memory of a CTA: ring, staging, h, boards, barriers.
    const SHARED_BYTES: u32 =
        Self::BARRIER_OFFSET + 8 * (2 * Self::STAGES + 2 * BOARDS + 2 * Self::CONSUMERS);

    /// Registers a thread has when a CTA starts, as ptxas rounds them: the SM's over its threads.
    const LAUNCH_REGISTERS: u32 = {
        let all = SM_REGISTERS / Self::THREADS / 8 * 8;
        if all > 248 { 248 } else { all }
    };
    /// Registers of a consumer, after the producer has given its own away.
    const CONSUMER_REGISTERS: u32 = {
        let pool = Self::LAUNCH_REGISTERS * (Self::CONSUMERS + 1) - PRODUCER_REGISTERS;
        let each = pool / Self::CONSUMERS / 8 * 8;
        if each > 240 { 240 } else { each }
    };
    /// Registers of a thread's sums, of y and h together.
    const SUM_REGISTERS: u32 = (Self::BLOCK_N + Self::H) / 2;
}

macro_rules! tiles {
    ($($(#[$attr:meta])* $name:ident: $m:literal x $n:literal, h $h:literal of $rank:literal,
        chunks of $chunk:literal, $stages:literal stages, $staging:literal staged;)*) => {
        $(
            $(#[$attr])*
            #[derive(Clone, Copy, Debug)]
            pub enum $name {}
            impl Blocks for $name {
                const BLOCK_M: u32 = $m;
                const BLOCK_N: u32 = $n;
                const H_COLUMNS: u32 = $chunk;
            }
            impl Tile for $name {
                const H: u32 = $h;
                const MAX_RANK: u32 = $rank;
                const STAGES: u32 = $stages;
                const STAGING: u32 = $staging;
            }
            const _: () = assert_sound::<$name>();
        )*
    };
}

/// What every kernel takes for granted of its tile.
const fn assert_sound<T: Tile>() {
    assert!(
        T::BLOCK_M.is_multiple_of(WARPGROUP_ROWS) && T::BLOCK_M / MAX_CLUSTER >= 8,
        "x is multicast in whole groups of rows"
    );
    assert!(
        T::BLOCK_N.is_multiple_of(T::BOX_N) && T::BOX_N.is_power_of_two() && T::BOX_N >= 16,
        "boxes of y"
    );
    assert!(
        T::SPLIT_K || (T::BLOCK_N / T::BOX_N).is_multiple_of(T::STAGING),
        "a tile's last box leaves the first place next"
    );
    assert!(T::BLOCK_N <= 256 && T::H <= 256, "columns of wgmma");
    assert!(T::H.is_multiple_of(PANEL) && T::MAX_RANK <= T::H * MAX_CLUSTER && T::MAX_RANK >= T::H);
    assert!(T::H == 0 || T::MAX_PANELS <= MAX_CHUNKS);
    assert!(!T::SLICED || (T::PANELS == 1 && !T::ONE_OPERAND), "a panel, multiplied apart");
    assert!(
        T::SLOT_BYTES.is_multiple_of(1024) && T::BOX_BYTES.is_multiple_of(1024),
        "patterns of the swizzle"
    );
    assert!(T::STAGES >= 3, "one step is multiplied, one released, one loaded");
    assert!(T::SHARED_BYTES <= MAX_SHARED);
    assert!(T::H_COLUMNS <= T::BLOCK_N && T::H_COLUMNS.is_multiple_of(PANEL), "A lies where W does");
    assert!(T::SLOT_BYTES < 1 << 20, "what a barrier counts");
    assert!(
        T::SUM_REGISTERS + OTHER_REGISTERS <= T::CONSUMER_REGISTERS,
        "sums of y and h fit beside the rest"
    );
}

tiles! {
    /// The most arithmetic per byte, with W's rows the longer side.
    T128x256: 128 x 256, h 0 of 0, chunks of 64, 4 stages, 2 staged;
    /// The same with x's rows the longer side.
    T256x128: 256 x 128, h 0 of 0, chunks of 64, 4 stages, 1 staged;
    /// `T128x256` with larger work items of the shrink: half the x per column of h, for large ranks.
    T128x256c256: 128 x 256, h 0 of 0, chunks of 256, 4 stages, 2 staged;
    /// `T256x128` with larger work items of the shrink.
    T256x128c128: 256 x 128, h 0 of 0, chunks of 128, 4 stages, 1 staged;
    /// Where 256 columns leave a wave short.
    T128x192: 128 x 192, h 0 of 0, chunks of 64, 4 stages, 3 staged;
    /// For a few thousand tokens, or 1024 columns.
    T128x128: 128 x 128, h 0 of 0, chunks of 64, 5 stages, 2 staged;
    /// For few tokens.
    T64x128: 64 x 128, h 0 of 0, chunks of 64, 6 stages, 2 staged;
    /// For few tokens.
    T64x64: 64 x 64, h 0 of 0, chunks of 64, 8 stages, 1 staged;
    /// For few tokens and columns.
    T64x32: 64 x 32, h 0 of 0, chunks of 32, 8 stages, 1 staged;
    /// For few tokens and columns: the most CTAs.
    T64x16: 64 x 16, h 0 of 0, chunks of 16, 8 stages, 1 staged;
    /// `T64x128` with K shared between CTAs.
    T64x128k: 64 x 128, h 0 of 0, chunks of 64, 5 stages, 0 staged;
    /// `T64x64` with K shared between CTAs.
    T64x64k: 64 x 64, h 0 of 0, chunks of 64, 8 stages, 0 staged;
    /// `T128x256` with 16 columns of h, up to 128 in a cluster of 8; A is multiplied apart.
    T128x256h16: 128 x 256, h 16 of 128, chunks of 64, 3 stages, 2 staged;
    /// `T128x256` with 32 columns of h, up to 128 in a cluster of 4; A is multiplied apart.
    T128x256h32: 128 x 256, h 32 of 128, chunks of 64, 3 stages, 2 staged;
    /// `T128x256` with 16 columns of h, for which up to 4 CTAs share K.
    T128x256k16: 128 x 256, h 16 of 16, chunks of 64, 3 stages, 2 staged;
    /// `T128x192` with 16 columns of h.
    T128x192h16: 128 x 192, h 16 of 128, chunks of 64, 4 stages, 1 staged;
    /// `T128x192` with 32 columns of h.
    T128x192h32: 128 x 192, h 32 of 256, chunks of 64, 3 stages, 1 staged;
    /// `T128x128` with 16 columns of h, up to 128 in a cluster of 8.
    T128x128h16: 128 x 128, h 16 of 128, chunks of 64, 4 stages, 2 staged;
    /// `T128x128` with 32 columns of h, up to 256 in a cluster of 8.
    T128x128h32: 128 x 128, h 32 of 256, chunks of 64, 4 stages, 1 staged;
    /// `T64x128` with 16 columns of h.
    T64x128h16: 64 x 128, h 16 of 128, chunks of 64, 6 stages, 2 staged;
    /// `T64x128` with 32 columns of h.
    T64x128h32: 64 x 128, h 32 of 256, chunks of 64, 5 stages, 2 staged;
    /// `T64x64` with 16 columns of h.
    T64x64h16: 64 x 64, h 16 of 128, chunks of 64, 8 stages, 1 staged;
    /// `T64x64` with 32 columns of h.
    T64x64h32: 64 x 64, h 32 of 256, chunks of 64, 7 stages, 1 staged;
    /// `T64x32` with 32 columns of h: for few tokens and columns.
    T64x32h32: 64 x 32, h 32 of 256, chunks of 32, 8 stages, 1 staged;
}

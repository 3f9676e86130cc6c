//! What a launch gets: one structure for all kernels, with the same layout on host and device.

use crate::Global;

/// Operands and sizes of one product. Strides are in elements; every matrix has unit stride along its
/// columns.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Params {
    /// `[M, K]`, row stride `ldx`. A kernel with `aligned` wants a base that is a multiple of 16 bytes, and K
    /// and `ldx` multiples of 8.
    pub x: Global<u16>,
    /// `[N, K]`, row stride `ldw`, a multiple of 8; base a multiple of 16 bytes; zeros from column K to the
    /// next multiple of 8.
    pub w: Global<u16>,
    /// `[M, N]`, row stride `ldy`. Stored in 16 bytes where base and `ldy` allow it, else element by element.
    pub y: Global<u16>,
    /// Tokens, at least 1.
    pub m: u32,
    /// Output width, at least 1.
    pub n: u32,
    /// Input width, at least 1.
    pub k: u32,
    /// Row stride of x.
    pub ldx: u32,
    /// Row stride of W.
    pub ldw: u32,
    /// Row stride of y.
    pub ldy: u32,
    /// What happens to the sums before they are rounded.
    pub epilogue: Epilogue,
    /// The adapters; ignored by `gemm`.
    pub lora: Lora,
}

/// What happens to the f32 sums before they are rounded to the storage type, once, in this order:
///
/// ```text
/// y = f16( activation( sums + addend + bias ) + residual + second_residual )
/// ```
///
/// Matrices may be y itself; what else they share with it they may only read. Any base and stride will do; 16
/// bytes are read at a time from those that are multiples of 16 bytes and 8 elements.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Epilogue {
    /// `[M, N]`, row stride `ld_addend`: where the sums start; null for 0. Read by `expand` alone, whose base
    /// product is another launch's.
    pub addend: Global<u16>,
    /// `[N]`, added to every row; null for none.
    pub bias: Global<u16>,
    /// `[M, N]`, row stride `ld_residual`; null for none.
    pub residual: Global<u16>,
    /// `[M, N]`, row stride `ld_second_residual`; null for none.
    pub second_residual: Global<u16>,
    /// Row stride of the addend.
    pub ld_addend: u32,
    /// Row stride of the residual.
    pub ld_residual: u32,
    /// Row stride of the second residual.
    pub ld_second_residual: u32,
    /// [`NO_ACTIVATION`](Self::NO_ACTIVATION) or [`GELU_TANH`](Self::GELU_TANH).
    pub activation: u32,
}

impl Epilogue {
    /// Sums stay as they are.
    pub const NO_ACTIVATION: u32 = 0;
    /// GELU in the form with tanh: `t / 2 · (1 + tanh(√(2/π) · (t + 0.044715 t³)))`.
    pub const GELU_TANH: u32 = 1;
}

/// The adapters of a launch: slabs, tables, and the workspace.
///
/// Adapters lie in two slabs, A `[R_total, K]` and B `[N, R_total]`, each adapter from its `offset` on, with
/// its rank rounded up to [`RANK_GRANULE`](crate::tile::RANK_GRANULE) by zeros.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Lora {
    /// `[R_total, K]`, row stride `lda`, a multiple of 8; base a multiple of 16 bytes; zeros from column K to
    /// the next multiple of 8.
    pub a: Global<u16>,
    /// `[N, R_total]`, row stride `ldb`, a multiple of 8; base a multiple of 16 bytes. For compute capability
    /// 9.0, zero in rows outside its adapter's columns.
    pub b: Global<u16>,
    /// Workspace, `[M, max r₁₆]`, for compute capability 9.0 of the sums of r₁₆ over a row tile's segments;
    /// row stride `ldh`, a multiple of 8; base a multiple of 16 bytes. `fused` with recomputed h does not
    /// touch it.
    pub h: Global<u16>,
    /// Workspace, zero before the first launch and after every one: a ticket, then two counters for each row
    /// tile ([`counters`](crate::counters) says which).
    pub counters: Global<u32>,
    /// [`Segment`]s in the order of their rows, without overlap; null: one adapter, `uniform`, for all rows.
    pub segments: Global<[u32; 4]>,
    /// [`Adapter`]s, by the segments' number.
    pub adapters: Global<[u32; 4]>,
    /// [`RowTile`]s for the BLOCK_M of the kernel, one more than there are row tiles; null if `segments` is.
    pub row_tiles: Global<u32>,
    /// How many segments there are.
    pub segment_count: u32,
    /// Row stride of A.
    pub lda: u32,
    /// Row stride of B.
    pub ldb: u32,
    /// Row stride of h.
    pub ldh: u32,
    /// Work items of the shrink, over all row tiles: with one adapter, row tiles times ⌈r₁₆ / BLOCK_N⌉.
    pub h_items: u32,
    /// The adapter of all rows, if `segments` is null.
    pub uniform: Adapter,
}

/// One adapter in the slabs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(16))]
pub struct Adapter {
    /// First row in A and first column in B, a multiple of [`RANK_GRANULE`](crate::tile::RANK_GRANULE).
    pub offset: u32,
    /// r; 0 for none.
    pub rank: u32,
    /// s
    pub scale: f32,
    /// The first column of y that it adds to. Where an h overflows to infinity, that row's columns up to a
    /// tile's width outside the range become NaN, or the tiles' of a cluster: there B is zero, and infinity
    /// times zero is not.
    pub first_column: u32,
    /// The column after its last: beyond the first if the rank is not 0, and at most N.
    pub last_column: u32,
    /// To 32 bytes.
    pub reserved: [u32; 3],
}

impl Adapter {
    /// Whether it adds to columns from `first` to before `past`.
    #[inline(always)]
    #[must_use]
    pub const fn touches(&self, first: u32, past: u32) -> bool {
        self.first_column < past && self.last_column > first
    }
}

/// Rows that share an adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Segment {
    /// The first row.
    pub first_row: u32,
    /// The row after the last, of one at least.
    pub last_row: u32,
    /// Number of the adapter.
    pub adapter: u32,
    /// To 16 bytes.
    pub reserved: u32,
}

/// Where a row tile starts in the list of segments and in that of the shrink's work items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RowTile {
    /// The first segment that ends behind the tile's first row.
    pub first_segment: u32,
    /// Work items of all row tiles before it.
    pub first_item: u32,
}

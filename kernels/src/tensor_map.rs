//! Tensor maps: how the copy engine finds a box of a matrix in global memory, and how it lies in shared
//! memory.

use crate::params::Params;

/// A `CUtensorMap`: 128 bytes that `cuTensorMapEncodeTiled` fills in and nobody else reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TensorMap(pub [u64; 16]);

/// The maps of a launch. All are of f16 in two dimensions, columns first, without interleave, filled with
/// zeros; boxes are given as rows × columns.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TensorMaps {
    /// `[M, K]`; boxes of BLOCK_M / cluster × 64 (of BLOCK_M × 64 where a cluster shares K), 128-byte
    /// swizzle.
    pub x: TensorMap,
    /// `[N, K]`; boxes of BLOCK_N × 64, 128-byte swizzle.
    pub w: TensorMap,
    /// `[M, N]`; boxes of 64 × min(BLOCK_N, 64), in the swizzle of a row's bytes.
    pub y: TensorMap,
    /// `[R_total, K]`; boxes of [`a_rows`](crate::table::Kernel::a_rows) × 64, 128-byte swizzle.
    pub a: TensorMap,
    /// `[N, R_total]`; boxes of BLOCK_N × 64, 128-byte swizzle.
    pub b: TensorMap,
    /// Workspace, `[M, ldh]`; boxes of BLOCK_M × 64, 128-byte swizzle; where h is shared alone.
    pub h: TensorMap,
}

/// What a launch on compute capability 9.0 gets. The address of its maps must be a multiple of 64 in the
/// memory of parameters: `cuda-builder` raises the alignment of the entries' parameter, since `align(64)`
/// here crashes rustc 1.96.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct TensorParams {
    /// For whom reads and writes matrices by boxes.
    pub maps: TensorMaps,
    /// Sizes, tables, epilogue, counters; the addresses of x, W, y, A and B are in the maps.
    pub params: Params,
}

// The copy engine wants a map at a multiple of 64.
const _: () =
    assert!(core::mem::offset_of!(TensorParams, maps) == 0 && size_of::<TensorMap>().is_multiple_of(64));

//! The base product: y = x Wᵀ and its epilogue.

use core::hint::assert_unchecked;

use super::{
    output_tile::output_tile,
    schedule::{Grid, Strided},
};
use crate::{
    device::{bar_sync, dynamic_shared},
    params::Params,
    tile::Tile,
};

/// `y = f16( activation( x Wᵀ + bias ) + residuals )`, tiles of y strided by the grid.
///
/// # Parameters
///
/// [`Params`] without `lora`. Any M, N, K from 1 on.
///
/// # Tiling
///
/// As `T` says. Any number of CTAs is right; as many as are resident at once, or fewer, are fast.
///
/// # Safety
///
/// The operands are as [`Params`] says, launched with `T::THREADS` threads and `T::SHARED_BYTES` of dynamic
/// shared memory.
#[inline(always)]
pub unsafe fn gemm<T: Tile, const ALIGNED: bool, const MT: usize, const NT: usize>(params: Params) {
    // SAFETY: the caller's contract.
    unsafe {
        // No code for a tile without steps, which nothing would ever run.
        assert_unchecked(params.k > 0);
        let grid = Grid::new::<T>(&params);
        let mut tiles = Strided::new(grid.outputs());
        while let Some(index) = tiles.next() {
            let (row_tile, column_tile) = grid.output(index);
            output_tile::<T, ALIGNED, true, false, MT, NT>(&params, row_tile, column_tile, dynamic_shared());
            // The next tile fills the shared memory from which this one is stored.
            bar_sync();
        }
    }
}

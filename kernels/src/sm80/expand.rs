//! The third launch of `unfused`: h Bᵀ added to the base product, and what the epilogue has behind that.

use super::{
    board::Board,
    output_tile::output_tile,
    schedule::{Grid, Strided, output},
};
use crate::{
    device::{dynamic_shared, thread_idx_x},
    params::Params,
    tile::Tile,
};

/// `y = f16( activation( h Bᵀ + addend ) + residuals )`, with h from the launch before, and the base product,
/// bias included, from the one before that.
///
/// # Parameters
///
/// [`Params`] with h in the workspace and `epilogue.addend`, as a rule y itself. x and W are not read.
///
/// # Tiling
///
/// As `T` says; any number of CTAs.
///
/// # Safety
///
/// As [`gemm`](super::gemm), and h is there.
#[inline(always)]
pub unsafe fn expand<T: Tile, const MT: usize, const NT: usize>(params: Params) {
    let shared = dynamic_shared();
    // SAFETY: the caller's contract; the board is written behind the barriers of the tile before, and the
    // ring behind the barrier that follows it.
    unsafe {
        let grid = Grid::new::<T>(&params);
        let mut tiles = Strided::new(grid.outputs());
        while let Some(index) = tiles.next() {
            let (row_tile, column_tile) = grid.output(index);
            if thread_idx_x() == 0 {
                Board::new::<T>(shared).set_work(output::<T>(&params, row_tile, column_tile));
            }
            output_tile::<T, true, false, true, MT, NT>(&params, row_tile, column_tile, shared);
        }
    }
}

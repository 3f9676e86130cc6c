//! The second launch of `unfused`: h = f16( s · x Aᵀ ).

use super::{
    board::Board,
    h_tile::h_tile,
    schedule::{Grid, Strided, h_item},
};
use crate::{
    device::{dynamic_shared, thread_idx_x},
    params::Params,
    tile::Tile,
};

/// `h = f16( s · x Aᵀ )` into the workspace, for all segments; tiles of h strided by the grid.
///
/// # Parameters
///
/// [`Params`] with `lora`. W, y and the counters are not touched.
///
/// # Tiling
///
/// As `T` says, BLOCK_N columns of h at a time; any number of CTAs.
///
/// # Safety
///
/// As [`gemm`](super::gemm).
#[inline(always)]
pub unsafe fn shrink<T: Tile, const ALIGNED: bool, const MT: usize, const NT: usize>(params: Params) {
    let shared = dynamic_shared();
    // SAFETY: the caller's contract; items are numbered below `h_items`; `h_tile` has a barrier between the
    // stores of one item and the copies of the next.
    unsafe {
        let row_tiles = Grid::new::<T>(&params).row_tiles;
        let mut items = Strided::new(params.lora.h_items);
        while let Some(index) = items.next() {
            if thread_idx_x() == 0 {
                let item = h_item::<T>(&params, 0, row_tiles, index);
                Board::new::<T>(shared).set_work(item.to_board());
            }
            h_tile::<T, ALIGNED, MT, NT>(&params, shared);
        }
    }
}

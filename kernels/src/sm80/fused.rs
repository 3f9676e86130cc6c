//! Base, shrink and expand in one launch, h shared between CTAs.

use super::{
    board::Board,
    h_tile::h_tile,
    hand_over,
    output_tile::output_tile,
    schedule::{HItem, Tickets, Work},
};
use crate::{
    device::{bar_sync, dynamic_shared, thread_idx_x},
    params::Params,
    tile::Tile,
};

/// `y = f16( activation( x Wᵀ + f16( s · x Aᵀ ) Bᵀ + bias ) + residuals )`, any number of adapters of any
/// rank.
///
/// Tiles of h are work items like tiles of y. A tile of y runs the whole K loop of the base before it waits
/// for its row tile's h, and then on over h and B, into the same sums.
///
/// # Parameters
///
/// [`Params`] with `lora`; the counters are zero, and zero again when the launch is over.
///
/// # Tiling
///
/// As `T` says. Any number of CTAs is right; as many as are resident at once, or fewer, are fast.
///
/// # Safety
///
/// As [`gemm`](super::gemm). No other launch uses the same workspace at the same time.
#[inline(always)]
pub unsafe fn fused<T: Tile, const ALIGNED: bool, const MT: usize, const NT: usize>(params: Params) {
    let shared = dynamic_shared();
    // SAFETY: the caller's contract; every item is the same for all threads.
    unsafe {
        let board = Board::new::<T>(shared);
        let mut tickets = Tickets::<T>::new(&params, board);
        while let Some(work) = tickets.next() {
            match work {
                Work::H => {
                    h_tile::<T, ALIGNED, MT, NT>(&params, shared);
                    // All threads have stored their part before one says so.
                    bar_sync();
                    if thread_idx_x() == 0 {
                        hand_over::publish(&params.lora, HItem::from_board(board.work()).row_tile);
                    }
                }
                Work::Output { row_tile, column_tile } => {
                    output_tile::<T, ALIGNED, true, true, MT, NT>(&params, row_tile, column_tile, shared);
                }
            }
        }
    }
}

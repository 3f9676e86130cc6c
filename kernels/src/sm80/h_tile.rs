//! One tile of h: the shrink of some rows by some columns of one adapter.

use super::{
    board::Board,
    copy::{Reader, Rows},
    fragments::Place,
    mainloop::{Operands, Products, Steps, mainloop},
    schedule::HItem,
    segments::next_part,
    store::{Finish, Target, store_tile},
};
use crate::{
    device::{SharedAddr, bar_sync, dynamic_shared},
    params::Params,
    tile::Tile,
};

/// Computes `f16( s · x Aᵀ )` and stores it to the workspace: rows of the segment alone, columns from r to
/// r₁₆ zero.
///
/// Only the warps whose columns the adapter has multiply, and only those columns' fragments.
///
/// # Safety
///
/// All threads of the CTA call it, the leader after it has written the item to the board; the operands are as
/// [`Params`] says; `shared` has the tile's SHARED_BYTES, which nobody uses until the CTA's next barrier.
#[inline(always)]
pub(super) unsafe fn h_tile<T: Tile, const ALIGNED: bool, const MT: usize, const NT: usize>(
    params: &Params,
    shared: SharedAddr,
) {
    let place = Place::new::<T>();
    let board = Board::new::<T>(shared);
    let lora = &params.lora;
    // SAFETY: the operands and tables are as `Params` says; ring and board are ours, and the board is written
    // by the leader alone, before the barrier.
    unsafe {
        if place.thread == 0 {
            let HItem { row_tile, mut segment, .. } = HItem::from_board(board.work());
            let part = next_part(params, row_tile * T::BLOCK_M, T::BLOCK_M, &mut segment);
            board.set_part(part, segment);
        }
        bar_sync();
        let HItem { row_tile, chunk, .. } = HItem::from_board(board.work());
        let (first_row, first_column) = (row_tile * T::BLOCK_M, chunk * T::BLOCK_N);
        let columns = board.rank16() - first_column;
        let a = Rows {
            first: lora.a.offset(u64::from(board.part().adapter.offset + first_column) * u64::from(lora.lda)),
            stride: lora.lda,
            begin: 0,
            end: columns,
        };
        let x = Rows::new(params.x, params.ldx, first_row, params.m);
        let steps = Steps {
            base: params.k.div_ceil(T::BLOCK_K),
            expand: 0,
            half: false,
            columns: columns.saturating_sub(place.column * NT as u32 * 8).div_ceil(8),
        };
        let mut operands = ShrinkOperands::<T, ALIGNED> {
            x: Reader::new(place, x, params.k, T::BLOCK_K),
            a: Reader::new(place, a, params.k, T::BLOCK_K),
        };
        let mut products = Products::zero();
        mainloop::<T, _, MT, NT, 0, true>(place, &mut operands, steps, &mut products, shared, board);

        // Anew, so that its addresses did not wait in registers.
        let board = Board::new::<T>(dynamic_shared());
        let (part, HItem { row_tile, chunk, .. }) = (board.part(), HItem::from_board(board.work()));
        let (first_row, first_column) = (row_tile * T::BLOCK_M, chunk * T::BLOCK_N);
        let target = Target {
            first: lora.h.offset(u64::from(first_row) * u64::from(lora.ldh) + u64::from(first_column)),
            stride: lora.ldh,
            begin: part.begin,
            end: part.end,
            columns: part.rank16() - first_column,
        };
        let finish =
            Scaled { scale: part.adapter.scale, real: part.adapter.rank.saturating_sub(first_column) };
        store_tile::<T, MT, NT>(&products.y, shared, &target, &finish);
    }
}

/// s, and zeros for the padding of the rank, which is written, not computed: inf · 0 is NaN.
struct Scaled {
    scale: f32,
    /// Columns of the tile that are not padding.
    real: u32,
}

impl Finish for Scaled {
    // h's row stride is a multiple of 8, as is the rank with its padding.
    const IN_CHUNKS: bool = true;

    #[inline(always)]
    unsafe fn finish(&self, _: u32, column: u32, _: u32, sums: [f32; 8]) -> [f32; 8] {
        let mut finished = [0.0; 8];
        let mut i = 0;
        while i < 8 {
            if column + (i as u32) < self.real {
                finished[i] = self.scale * sums[i];
            }
            i += 1;
        }
        finished
    }
}

struct ShrinkOperands<T, const ALIGNED: bool> {
    x: Reader<T>,
    a: Reader<T>,
}

impl<T: Tile, const ALIGNED: bool> Operands for ShrinkOperands<T, ALIGNED> {
    const EXPANDS: bool = false;

    #[inline(always)]
    unsafe fn copy_first(&mut self, slot: SharedAddr) {
        // SAFETY: x is as `Params` says; the slot is free by the caller's contract.
        unsafe { self.x.copy::<ALIGNED>(slot, T::BLOCK_M, T::BLOCK_K) }
    }

    #[inline(always)]
    unsafe fn copy_second(&mut self, slot: SharedAddr) {
        // SAFETY: A is as `Params` says; the slot is free by the caller's contract.
        unsafe { self.a.copy::<true>(slot.offset(T::BLOCK_M * T::BLOCK_K * 2), T::BLOCK_N, T::BLOCK_K) }
    }
}

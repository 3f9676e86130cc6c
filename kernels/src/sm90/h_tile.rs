//! Shared h: a tile of it from registers to the workspace.

use super::{
    board::Board,
    lane::Lane,
    tile::{Tile, WARPGROUP_ROWS},
};
use crate::{
    device::{Sums, pack_f16x2},
    params::Params,
};

/// `f16( s · )` of this warpgroup's rows of a tile of h, to the workspace: `columns` from `first_column` on.
/// All rows of the row tile, so that whoever multiplies them finds zeros in those of other adapters.
///
/// # Safety
///
/// All threads of the warpgroup call it; the board shows the item; the workspace is as
/// [`Lora`](crate::params::Lora) says.
#[inline(always)]
pub(super) unsafe fn store_h<T: Tile, const R: usize>(
    params: &Params,
    board: Board<T>,
    warpgroup: u32,
    sums: Sums<R>,
) {
    const { assert!(2 * R as u32 == T::H_COLUMNS) };
    let lane = Lane::new();
    let lora = &params.lora;
    // SAFETY: rows below M and columns below r₁₆ are there, and this item's alone.
    unsafe {
        let [_, row_tile, first_column, columns] = board.item();
        let panel = board.panel(0);
        let row_in_tile = warpgroup * WARPGROUP_ROWS + lane.row;
        let mut j = 0;
        while j < R / 4 {
            let column = 8 * j as u32 + lane.column;
            let mut below = 0;
            while below < 2 {
                let row = row_in_tile + 8 * below as u32;
                let value = |i: usize| {
                    let there = panel.begin <= row && row < panel.end && column + (i as u32) < panel.real;
                    if there { panel.scale * sums.registers()[4 * j + 2 * below + i] } else { 0.0 }
                };
                let words = pack_f16x2(value(0), value(1));
                let global_row = row_tile * T::BLOCK_M + row;
                if global_row < params.m && column < columns {
                    let offset =
                        u64::from(global_row) * u64::from(lora.ldh) + u64::from(first_column + column);
                    lora.h.offset(offset).cast::<u32>().store(words);
                }
                below += 1;
            }
            j += 1;
        }
    }
}

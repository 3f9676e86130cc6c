//! Warp-wide matrix stores. Each warp has operands of its own.

use crate::{
    device::{bar_warp_sync, block_dim_x, stmatrix_x4 as store},
    instructions::item::{Item, WARP},
};

/// Rows of 16 bytes of a warp's 32.
const WARP_BYTES: u32 = WARP * 16;

/// Input: of each lane four registers; then, of each lane, the number of the row, among its warp's 32, whose
/// address it gives, all different. Output: the four words of each row.
#[inline(always)]
pub(in crate::instructions) unsafe fn stmatrix_x4(item: Item) {
    let rows = item.shared.offset(item.lane / WARP * WARP_BYTES);
    // SAFETY: the warp stores each of its rows once, and the barrier orders that before the loads.
    unsafe {
        let registers = item.input_at(4 * item.lane).cast::<[u32; 4]>().load();
        store(rows.offset(16 * item.get(4 * block_dim_x() + item.lane)), registers);
        bar_warp_sync();
        let row = rows.offset(16 * (item.lane % WARP)).load_v4();
        item.output_at(4 * item.lane).cast::<[u32; 4]>().store(row);
    }
}

//! Warp-wide: matrix loads and products. Each warp has operands of its own.

use crate::{
    device::{
        SharedAddr, bar_warp_sync, block_dim_x, ldmatrix_x4 as load, ldmatrix_x4_trans as load_transposed,
        mma_m16n8k16_f16 as multiply,
    },
    instructions::item::{Item, WARP},
};

/// Rows of 16 bytes of a warp's 32.
const WARP_BYTES: u32 = WARP * 16;

/// Input: of each lane the four words of a row; then, of each lane, the number of the row, among its warp's
/// 32, whose address it gives. Output: the four registers of each lane.
#[inline(always)]
pub(in crate::instructions) unsafe fn ldmatrix_x4(item: Item) {
    // SAFETY: the row is one of this warp's, and the barrier orders its store before this.
    unsafe {
        let registers = load(own_row(item));
        item.output_at(4 * item.lane).cast::<[u32; 4]>().store(registers);
    }
}

/// The same, transposed.
#[inline(always)]
pub(in crate::instructions) unsafe fn ldmatrix_x4_trans(item: Item) {
    // SAFETY: as above.
    unsafe {
        let registers = load_transposed(own_row(item));
        item.output_at(4 * item.lane).cast::<[u32; 4]>().store(registers);
    }
}

/// Stores the warp's rows, and gives where the one lies that this lane names.
///
/// # Safety
///
/// All lanes of the warp call it; input and shared memory are as [`ldmatrix_x4`] says.
#[inline(always)]
#[track_caller]
unsafe fn own_row(item: Item) -> SharedAddr {
    let rows = item.shared.offset(item.lane / WARP * WARP_BYTES);
    // SAFETY: rows are stored by the lanes of the warp that reads them, and the barrier orders that.
    unsafe {
        let value = item.input_at(4 * item.lane).cast::<[u32; 4]>().load();
        rows.offset(item.lane % WARP * 16).store_v4(value);
        let row = item.get(4 * block_dim_x() + item.lane);
        bar_warp_sync();
        rows.offset(row * 16)
    }
}

/// Input: of each lane the registers of a (four), b (two), and c (four f32), and two words that are ignored.
/// Output: the four f32 of each lane.
#[inline(always)]
pub(in crate::instructions) unsafe fn mma_m16n8k16_f16(item: Item) {
    // SAFETY: each lane's own words; all lanes of the warp come to the product.
    unsafe {
        let word = |i: u32| item.get(12 * item.lane + i);
        let a = [word(0), word(1), word(2), word(3)];
        let c = [word(6), word(7), word(8), word(9)].map(f32::from_bits);
        let d = multiply(a, [word(4), word(5)], c);
        item.output_at(4 * item.lane).cast::<[u32; 4]>().store(d.map(f32::to_bits));
    }
}

//! One tile of y: the base's K loop over x and W, run on over h and B.

use super::{
    board::Board,
    copy::{Reader, Rows},
    epilogue::Epilogued,
    fragments::{Place, Sums},
    hand_over,
    mainloop::{Operands, Products, Steps, mainloop},
    segments::{Part, first_segment, next_part},
    store::{Target, store_tile},
};
use crate::{
    device::{SharedAddr, bar_sync, dynamic_shared},
    params::{Adapter, Params},
    tile::Tile,
};

/// Computes and stores the tile of y at `row_tile`, `column_tile`: with BASE the sum of x Wᵀ, with EXPAND
/// that of h Bᵀ.
///
/// With both, h comes from work items of the same launch and is waited for; with EXPAND alone, from a launch
/// before this one.
///
/// # Safety
///
/// All threads of the CTA call it with the same arguments; with EXPAND the leader has written the tile to the
/// board; the operands are as [`Params`] says; `shared` has the tile's SHARED_BYTES, which nobody uses until
/// the CTA's next barrier.
#[inline(always)]
pub(super) unsafe fn output_tile<
    T: Tile,
    const ALIGNED: bool,
    const BASE: bool,
    const EXPAND: bool,
    const MT: usize,
    const NT: usize,
>(
    params: &Params,
    row_tile: u32,
    column_tile: u32,
    shared: SharedAddr,
) {
    let place = Place::new::<T>();
    let board = Board::new::<T>(shared);
    let (first_row, first_column) = (row_tile * T::BLOCK_M, column_tile * T::BLOCK_N);
    let mut products = Products::zero();
    // SAFETY: the operands and tables are as `Params` says; ring and board are ours, and barriers separate
    // their writing from their reading.
    unsafe {
        let mut k = if BASE { params.k } else { 0 };
        let mut first = true;
        // As a rule once: the base, and on into the row tile's adapter. Where a row tile has several, the
        // ring runs empty between them.
        loop {
            let mut rank16 = 0;
            if EXPAND {
                if place.thread == 0 {
                    let mut segment =
                        if first { first_segment(&params.lora, row_tile) } else { board.segment() };
                    let part = next_part_of_tile::<T>(params, first_row, first_column, &mut segment);
                    board.set_part(part, segment);
                }
                bar_sync();
                rank16 = board.rank16();
            }
            let steps = Steps {
                base: k.div_ceil(T::BLOCK_K),
                expand: rank16.div_ceil(T::BLOCK_K),
                half: rank16 % T::BLOCK_K != 0,
                columns: 0,
            };
            if steps.base + steps.expand == 0 {
                break;
            }
            let x = Rows::new(params.x, params.ldx, first_row, params.m);
            let w = Rows::new(params.w, params.ldw, first_column, params.n);
            let mut operands = TileOperands::<T, ALIGNED, EXPAND> {
                params,
                place,
                board,
                first: Reader::new(place, x, k, T::BLOCK_K),
                second: Reader::new(place, w, k, T::BLOCK_K),
                first_expands: false,
                second_expands: false,
            };
            if !BASE {
                // Said here, the compiler leaves no code for x and W.
                operands.expand_first();
                operands.expand_second();
            }
            mainloop::<T, _, MT, NT, 0, false>(place, &mut operands, steps, &mut products, shared, board);
            // One adapter for all rows is one part.
            if !EXPAND || params.lora.segments.is_null() {
                break;
            }
            (k, first) = (0, false);
            // Ring and board are read until here.
            bar_sync();
        }
        let (mut row_tile, mut column_tile) = (row_tile, column_tile);
        if EXPAND {
            // Anew, so that its addresses did not wait in registers.
            let board = Board::new::<T>(dynamic_shared());
            let items;
            [_, row_tile, column_tile, items] = board.work();
            if BASE && items > 0 && place.thread == 0 {
                hand_over::pass(&params.lora, row_tile, params.n.div_ceil(T::BLOCK_N));
            }
        }
        let (first_row, first_column) = (row_tile * T::BLOCK_M, column_tile * T::BLOCK_N);
        if BASE {
            store_y::<T, false, MT, NT>(params, &products.y, first_row, first_column, shared);
        } else {
            store_y::<T, true, MT, NT>(params, &products.y, first_row, first_column, shared);
        }
    }
}

/// The next part of the row tile with an adapter for the columns of a tile; moves `segment` behind it.
///
/// # Safety
///
/// The tables are as [`Params`] says.
#[inline(always)]
pub(super) unsafe fn next_part_of_tile<T: Tile>(
    params: &Params,
    first_row: u32,
    first_column: u32,
    segment: &mut u32,
) -> Part {
    loop {
        // SAFETY: the caller's contract.
        let part = unsafe { next_part(params, first_row, T::BLOCK_M, segment) };
        if part.is_none() || part.adapter.touches(first_column, first_column + T::BLOCK_N) {
            return part;
        }
    }
}

/// The sums go through the epilogue, with ADDEND from its addend on; the tile goes to y.
///
/// # Safety
///
/// As [`store_tile`], and the operands are as [`Params`] says.
#[inline(always)]
pub(super) unsafe fn store_y<T: Tile, const ADDEND: bool, const MT: usize, const NT: usize>(
    params: &Params,
    sums: &Sums<MT, NT>,
    first_row: u32,
    first_column: u32,
    staging: SharedAddr,
) {
    let target = Target {
        first: params.y.offset(u64::from(first_row) * u64::from(params.ldy) + u64::from(first_column)),
        stride: params.ldy,
        begin: 0,
        end: params.m - first_row,
        columns: params.n - first_column,
    };
    let finish = Epilogued::<ADDEND> { params, first_row, first_column };
    // SAFETY: the caller's contract.
    unsafe { store_tile::<T, MT, NT>(sums, staging, &target, &finish) }
}

/// x and W, then h and B of one part of the row tile. First and second operand change over at different
/// times.
struct TileOperands<'a, T, const ALIGNED: bool, const EXPAND: bool> {
    params: &'a Params,
    place: Place,
    board: Board,
    first: Reader<T>,
    second: Reader<T>,
    /// Whether `first` reads h.
    first_expands: bool,
    /// Whether `second` reads B.
    second_expands: bool,
}

impl<T: Tile, const ALIGNED: bool, const EXPAND: bool> TileOperands<'_, T, ALIGNED, EXPAND> {
    /// The first operand is h from now on.
    ///
    /// # Safety
    ///
    /// The board has the work and its part, and is not written before the next barrier.
    #[inline(always)]
    unsafe fn expand_first(&mut self) {
        // SAFETY: the caller's contract.
        let (lora, part, [_, row_tile, ..]) =
            unsafe { (&self.params.lora, self.board.part(), self.board.work()) };
        let h = Rows {
            first: lora.h.offset(u64::from(row_tile * T::BLOCK_M) * u64::from(lora.ldh)),
            stride: lora.ldh,
            begin: part.begin,
            end: part.end,
        };
        self.first = Reader::new(self.place, h, part.rank16(), T::BLOCK_K);
        self.first_expands = true;
    }

    /// The second operand is B from now on.
    ///
    /// # Safety
    ///
    /// As [`expand_first`](Self::expand_first).
    #[inline(always)]
    unsafe fn expand_second(&mut self) {
        // SAFETY: the caller's contract.
        let (part, [_, _, column_tile, _]) = unsafe { (self.board.part(), self.board.work()) };
        let b = expand_rows(self.params, &part.adapter, column_tile * T::BLOCK_N);
        self.second = Reader::new(self.place, b, part.rank16(), T::BLOCK_K);
        self.second_expands = true;
    }
}

impl<T: Tile, const ALIGNED: bool, const EXPAND: bool> Operands for TileOperands<'_, T, ALIGNED, EXPAND> {
    const EXPANDS: bool = EXPAND;

    #[inline(always)]
    unsafe fn copy_first(&mut self, slot: SharedAddr) {
        // SAFETY: x and h are as `Params` says, h is visible and the slot free by the caller's contract; the
        // board is not written before the next barrier but one.
        unsafe {
            if EXPAND && !self.first_expands && self.first.is_done() {
                self.expand_first();
            }
            if ALIGNED || self.first_expands {
                self.first.copy::<true>(slot, T::BLOCK_M, T::BLOCK_K);
            } else {
                self.first.copy::<false>(slot, T::BLOCK_M, T::BLOCK_K);
            }
        }
    }

    #[inline(always)]
    unsafe fn copy_h(&mut self, slot: SharedAddr) {
        // SAFETY: as above.
        unsafe {
            if !self.first_expands {
                self.expand_first();
            }
            self.first.copy::<true>(slot, T::BLOCK_M, T::BLOCK_K);
        }
    }

    #[inline(always)]
    unsafe fn copy_second(&mut self, slot: SharedAddr) {
        // SAFETY: W and B are as `Params` says, the slot is free by the caller's contract; the board as
        // above.
        unsafe {
            if EXPAND && !self.second_expands && self.second.is_done() {
                self.expand_second();
            }
            self.second.copy::<true>(slot.offset(T::BLOCK_M * T::BLOCK_K * 2), T::BLOCK_N, T::BLOCK_K);
        }
    }

    #[inline(always)]
    #[track_caller]
    unsafe fn h_is_ready(&self) -> bool {
        // SAFETY: the caller's contract; the board as above.
        unsafe {
            let [_, row_tile, _, items] = self.board.work();
            hand_over::is_ready(&self.params.lora, row_tile, items)
        }
    }
}

/// Rows of B that the tile from `first_column` on multiplies h with: those of the adapter's columns.
#[inline(always)]
pub(super) fn expand_rows(params: &Params, adapter: &Adapter, first_column: u32) -> Rows {
    let lora = &params.lora;
    Rows {
        first: lora.b.offset(u64::from(first_column) * u64::from(lora.ldb) + u64::from(adapter.offset)),
        stride: lora.ldb,
        begin: adapter.first_column.saturating_sub(first_column),
        end: params.n.min(adapter.last_column).saturating_sub(first_column),
    }
}

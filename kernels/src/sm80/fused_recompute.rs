//! Base, shrink and expand in one launch, every CTA makes the h of its rows. For small ranks.

use super::{
    board::Board,
    copy::{Reader, Rows},
    fragments::{Place, Sums, columns_at, load_columns, load_rows, multiply, rows_at},
    mainloop::{Operands, Products, Steps, mainloop},
    output_tile::{expand_rows, next_part_of_tile, store_y},
    schedule::{Grid, Strided},
    segments::{Part, first_segment},
    swizzle::{CHUNK_ELEMENTS, chunk_at, two_chunks_further},
};
use crate::{
    device::{SharedAddr, bar_sync, dynamic_shared, pack_f16x2},
    params::Params,
    tile::Tile,
};

/// As [`fused`](super::fused), for calls in which a row tile has one segment with an adapter at most, whose
/// rank is at most `T::H`.
///
/// While a slot of x is in shared memory for the base product, the CTA multiplies it with A, too: H more
/// columns beside BLOCK_N. Then h is rounded, crosses shared memory to become a first operand, and is
/// multiplied with B, which has waited there since the beginning. Nobody waits for anybody; the workspace is
/// not touched. The price is H / BLOCK_N more multiplications.
///
/// # Parameters
///
/// [`Params`] with `lora`, without workspace.
///
/// # Tiling
///
/// As `T` says; any number of CTAs.
///
/// # Safety
///
/// As [`gemm`](super::gemm).
#[inline(always)]
pub unsafe fn fused_recompute<
    T: Tile,
    const ALIGNED: bool,
    const MT: usize,
    const NT: usize,
    const HT: usize,
>(
    params: Params,
) {
    // SAFETY: the caller's contract; `output_tile` has a barrier between the stores of one tile and the
    // copies of the next.
    unsafe {
        let grid = Grid::new::<T>(&params);
        let mut tiles = Strided::new(grid.outputs());
        while let Some(index) = tiles.next() {
            let (row_tile, column_tile) = grid.output(index);
            output_tile::<T, ALIGNED, MT, NT, HT>(&params, row_tile, column_tile, dynamic_shared());
        }
    }
}

/// Computes and stores the tile of y at `row_tile`, `column_tile`.
///
/// # Safety
///
/// All threads of the CTA call it with the same arguments; the operands are as [`Params`] says; `shared` has
/// the tile's SHARED_BYTES, which nobody uses until the CTA's next barrier.
#[inline(always)]
unsafe fn output_tile<T: Tile, const ALIGNED: bool, const MT: usize, const NT: usize, const HT: usize>(
    params: &Params,
    row_tile: u32,
    column_tile: u32,
    shared: SharedAddr,
) {
    let place = Place::new::<T>();
    let board = Board::new::<T>(shared);
    let (first_row, first_column) = (row_tile * T::BLOCK_M, column_tile * T::BLOCK_N);
    let h = shared.offset(T::RING_BYTES);
    let b = h.offset(T::BLOCK_M * T::H * 2);
    // SAFETY: the operands and tables are as `Params` says; ring, h, b and board are ours, and barriers
    // separate their writing from their reading.
    unsafe {
        if place.thread == 0 {
            let mut segment = first_segment(&params.lora, row_tile);
            board.set_part(next_part_of_tile::<T>(params, first_row, first_column, &mut segment), segment);
            board.set_work([0, row_tile, column_tile, 0]);
        }
        bar_sync();
        let makes_h = board.rank16() > 0;
        let part = board.part();
        if makes_h {
            let rows = expand_rows(params, &part.adapter, first_column);
            // Belongs to the ring's first group, and is there long before it is needed.
            Reader::<T>::new(place, rows, part.rank16(), T::H).copy::<true>(b, T::BLOCK_N, T::H);
        }
        let a = Rows {
            first: params.lora.a.offset(u64::from(part.adapter.offset) * u64::from(params.lora.lda)),
            stride: params.lora.lda,
            begin: 0,
            end: part.rank16(),
        };
        let x = Rows::new(params.x, params.ldx, first_row, params.m);
        let w = Rows::new(params.w, params.ldw, first_column, params.n);
        let mut operands = SideOperands::<T, ALIGNED> {
            x: Reader::new(place, x, params.k, T::BLOCK_K),
            w: Reader::new(place, w, params.k, T::BLOCK_K),
            a: Reader::new(place, a, params.k, T::BLOCK_K),
            makes_h,
        };
        let steps = Steps { base: params.k.div_ceil(T::BLOCK_K), expand: 0, half: false, columns: 0 };
        let mut products = Products::zero();
        mainloop::<T, _, MT, NT, HT, false>(place, &mut operands, steps, &mut products, shared, board);
        // Anew, so that its addresses did not wait in registers.
        let board = Board::new::<T>(dynamic_shared());
        if makes_h {
            store_h::<T, MT, HT>(place, &products.h, h, &board.part());
            bar_sync();
            expand_from_shared::<T, MT, NT>(place, &mut products.y, h, b);
        }
        let [_, row_tile, column_tile, _] = board.work();
        let (first_row, first_column) = (row_tile * T::BLOCK_M, column_tile * T::BLOCK_N);
        store_y::<T, false, MT, NT>(params, &products.y, first_row, first_column, shared);
    }
}

/// h, scaled and rounded, to shared memory; zeros outside the segment's rows and the adapter's rank.
///
/// # Safety
///
/// All threads call it; nobody reads or writes `to` until the next barrier.
#[inline(always)]
unsafe fn store_h<T: Tile, const MT: usize, const HT: usize>(
    place: Place,
    sums: &Sums<MT, HT>,
    to: SharedAddr,
    part: &Part,
) {
    let rank = part.adapter.rank;
    let mut m = 0;
    while m < MT {
        let mut n = 0;
        while n < HT {
            let mut half = 0;
            while half < 2 {
                let row = place.row + 16 * m as u32 + 8 * half as u32 + place.lane / 4;
                let column = (place.column * HT as u32 + n as u32) * 8 + place.lane % 4 * 2;
                let inside = part.begin <= row && row < part.end;
                let value = |i: usize| {
                    // Padding is written, not computed: inf · 0 is NaN.
                    if inside && column + (i as u32) < rank {
                        part.adapter.scale * sums.0[m][n][2 * half + i]
                    } else {
                        0.0
                    }
                };
                let at = h_chunk::<T>(to, row, column / CHUNK_ELEMENTS);
                // SAFETY: each pair of elements belongs to one lane.
                unsafe {
                    at.offset(column % CHUNK_ELEMENTS * 2).store_u32(pack_f16x2(value(0), value(1)));
                }
                half += 1;
            }
            n += 1;
        }
        m += 1;
    }
}

/// y += h Bᵀ, both in shared memory.
///
/// # Safety
///
/// All threads call it, after a barrier that follows the writes of `h` and `b`.
#[inline(always)]
unsafe fn expand_from_shared<T: Tile, const MT: usize, const NT: usize>(
    place: Place,
    sums: &mut Sums<MT, NT>,
    h: SharedAddr,
    b: SharedAddr,
) {
    let column = place.column * NT as u32 * 8;
    // SAFETY: the caller's contract.
    unsafe {
        match T::H {
            16 => {
                let h = load_rows::<32, MT>(rows_at::<32>(h, place.row, place.lane));
                let b = load_columns::<32, NT>(columns_at::<32>(b, column, place.lane));
                multiply::<MT, NT, false>(sums, &h, &b, 0);
            }
            _ => {
                let (mut h, mut b) =
                    (rows_at::<64>(h, place.row, place.lane), columns_at::<64>(b, column, place.lane));
                let mut half = 0;
                while half < 2 {
                    let (rows, columns) = (load_rows::<64, MT>(h), load_columns::<64, NT>(b));
                    multiply::<MT, NT, false>(sums, &rows, &columns, 0);
                    (h, b) = (two_chunks_further(h), two_chunks_further(b));
                    half += 1;
                }
            }
        }
    }
}

/// Where a chunk of h, or of B, lies.
#[inline(always)]
fn h_chunk<T: Tile>(tile: SharedAddr, row: u32, chunk: u32) -> SharedAddr {
    const { assert!(T::H == 16 || T::H == 32) };
    match T::H {
        16 => chunk_at::<32>(tile, row, chunk),
        _ => chunk_at::<64>(tile, row, chunk),
    }
}

struct SideOperands<T, const ALIGNED: bool> {
    x: Reader<T>,
    w: Reader<T>,
    a: Reader<T>,
    makes_h: bool,
}

impl<T: Tile, const ALIGNED: bool> Operands for SideOperands<T, ALIGNED> {
    const EXPANDS: bool = false;

    #[inline(always)]
    fn makes_h(&self) -> bool {
        self.makes_h
    }

    #[inline(always)]
    unsafe fn copy_first(&mut self, slot: SharedAddr) {
        // SAFETY: x is as `Params` says; the slot is free by the caller's contract.
        unsafe { self.x.copy::<ALIGNED>(slot, T::BLOCK_M, T::BLOCK_K) }
    }

    #[inline(always)]
    unsafe fn copy_second(&mut self, slot: SharedAddr) {
        let w = slot.offset(T::BLOCK_M * T::BLOCK_K * 2);
        // SAFETY: W and A are as `Params` says; the slot is free by the caller's contract.
        unsafe {
            self.w.copy::<true>(w, T::BLOCK_N, T::BLOCK_K);
            self.a.copy::<true>(w.offset(T::BLOCK_N * T::BLOCK_K * 2), T::H, T::BLOCK_K);
        }
    }
}

//! Bias, activation and residuals of a box of y, whose sums are in registers.
//!
//! A thread's sums are pairs of columns in many rows: read from global memory in that form, a matrix would be
//! fetched four bytes at a time, with an address and a bound for each, and all of it unrolled. So an operand
//! comes the way that y goes, backwards: `cp.async` fetches it in chunks of a row to the place where the box
//! will be staged, and `ldmatrix` gives each thread the elements of its sums. Bias, a matrix whose rows are
//! the same one, and residuals take turns there in a loop that is not unrolled. A warp fetches its own 16
//! rows, so that it waits for nobody.

use super::{
    lane::{Lane, chunk},
    tile::Tile,
};
use crate::{
    Global,
    device::{
        SharedAddr, bar_warp_sync, cp_async_16, cp_async_commit_group, cp_async_wait_group, f16_to_f32,
        ldmatrix_x4, opaque, thread_idx_x,
    },
    params::{Epilogue, Params},
    sm80::{
        epilogue::{gelu_tanh, load_eight},
        store::WIDTH,
    },
    tile::WARP,
};

/// Rows of a warp.
const ROWS: u32 = 16;
/// Operands in the order of their turns: bias, residual, second residual. The activation comes behind the
/// first.
const OPERANDS: u32 = 3;

/// What happens to the sums of a warpgroup's rows.
pub(super) struct BoxEpilogue<'a> {
    params: &'a Params,
    lane: Lane,
    /// The warp's first row of y.
    first_row: u32,
}

impl<'a> BoxEpilogue<'a> {
    /// Of the warpgroup whose rows begin at `first_row`.
    #[inline(always)]
    pub(super) fn new(params: &'a Params, first_row: u32, lane: Lane) -> Self {
        Self { params, lane, first_row: first_row + lane.matrix_row / ROWS * ROWS }
    }

    /// Whether there are residuals.
    #[inline(always)]
    pub(super) fn reads_residuals(&self) -> bool {
        let epilogue = &self.params.epilogue;
        !epilogue.residual.is_null() || !epilogue.second_residual.is_null()
    }

    /// Whether sums are stored as they are: then no turn is taken.
    #[inline(always)]
    fn is_empty(&self) -> bool {
        let epilogue = &self.params.epilogue;
        epilogue.bias.is_null() && epilogue.activation != Epilogue::GELU_TANH && !self.reads_residuals()
    }

    /// An operand and its row stride, by its turn.
    #[inline(always)]
    fn operand(&self, turn: u32) -> (Global<u16>, u32) {
        let epilogue = &self.params.epilogue;
        match turn {
            0 => (epilogue.bias, 0),
            1 => (epilogue.residual, epilogue.ld_residual),
            _ => (epilogue.second_residual, epilogue.ld_second_residual),
        }
    }

    /// Finishes the sums of a box, those from register `first` on, whose first column is `column`.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup call it; the epilogue's operands are as [`Params`] says; nobody else uses
    /// the warp's rows of `place`, the box's own, until the warpgroup's next barrier.
    #[inline(always)]
    pub(super) unsafe fn finish<T: Tile, const R: usize>(
        &self,
        sums: &mut [f32; R],
        first: usize,
        column: u32,
        place: SharedAddr,
    ) {
        if self.is_empty() {
            return;
        }
        let Params { m, n, ref epilogue, .. } = *self.params;
        let (rows, columns) = (m.saturating_sub(self.first_row), n.saturating_sub(column));
        // Opaque, so that the first turn is no loop of its own: twice the code.
        let mut turn = opaque(0);
        loop {
            if turn == 1 && epilogue.activation == Epilogue::GELU_TANH {
                let mut register = 0;
                while register < T::BOX_N as usize / 2 {
                    sums[first + register] = gelu_tanh(sums[first + register]);
                    register += 1;
                }
            }
            let (matrix, stride) = self.operand(turn);
            // What is not there is not stored either.
            if !matrix.is_null() && rows > 0 && columns > 0 {
                let at = u64::from(self.first_row) * u64::from(stride) + u64::from(column);
                // SAFETY: rows and columns that are not there are left out; the warp's barriers separate its
                // reads of the place from its writes.
                unsafe {
                    self.fetch::<T>(matrix.offset(at), stride, rows, columns, place);
                    bar_warp_sync();
                    let mut i = 0;
                    while i < T::BOX_N / 16 {
                        let from = chunk::<T>(place, self.lane.matrix_row, 2 * i + self.lane.matrix_chunk);
                        let words = ldmatrix_x4(from);
                        let mut register = 0;
                        while register < 8 {
                            let element = (words[register / 2] >> (16 * (register % 2))) as u16;
                            sums[first + 8 * i as usize + register] += f16_to_f32(element);
                            register += 1;
                        }
                        i += 1;
                    }
                    bar_warp_sync();
                }
            }
            turn += 1;
            if turn >= OPERANDS {
                break;
            }
        }
    }

    /// Fetches the warp's rows of an operand's box, from `from` on; zeros for columns that are not there. Of
    /// rows that are not there, the last one stands in: those of other warps may be stored by now.
    ///
    /// # Safety
    ///
    /// All threads of the warp call it; `rows` and `columns`, at least one of each, are readable from `from`
    /// on; the warp's rows of `place` are writable.
    #[inline(always)]
    unsafe fn fetch<T: Tile>(
        &self,
        from: Global<u16>,
        stride: u32,
        rows: u32,
        columns: u32,
        place: SharedAddr,
    ) {
        let chunks = T::BOX_N / WIDTH;
        let (lane, warp_row) = (opaque(thread_idx_x()) % WARP, self.lane.matrix_row / ROWS * ROWS);
        let (row, column) = (lane / chunks, lane % chunks * WIDTH);
        let present = columns.saturating_sub(column).min(WIDTH);
        let steps = ROWS * chunks / WARP;
        let from_to = |step: u32| {
            let row = row + step * (WARP / chunks);
            let from = from.offset(u64::from(row.min(rows - 1)) * u64::from(stride) + u64::from(column));
            (from, chunk::<T>(place, warp_row + row, column / WIDTH))
        };
        // SAFETY: the caller's contract.
        unsafe {
            if from.address().is_multiple_of(16) && (stride | columns.min(T::BOX_N)).is_multiple_of(WIDTH) {
                let mut step = 0;
                while step < steps {
                    let (from, to) = from_to(step);
                    cp_async_16(to, from, if present > 0 { 16 } else { 0 });
                    step += 1;
                }
                cp_async_commit_group();
                cp_async_wait_group::<0>();
            } else {
                let mut step = 0;
                loop {
                    let (from, to) = from_to(step);
                    to.store_v4(load_eight(from, present));
                    step += 1;
                    if step >= opaque(steps) {
                        break;
                    }
                }
            }
        }
    }
}

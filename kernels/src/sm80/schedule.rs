//! Which work item is next.
//!
//! Work items of `fused` have numbers, *tickets*: row tiles are taken in groups of [`GROUP`]; a group's
//! tickets are first its tiles of h, then its tiles of y, column by column. So the x of a group is still in
//! L2 when the tiles of y read it, and W is read once a group.
//!
//! A CTA draws its next ticket with an atomic. A tile of y waits for tiles of h alone, whose tickets are
//! smaller; a tile of h waits for nothing. Whoever holds the smallest unfinished ticket is therefore never
//! waiting, or about to draw it: it is running it, or running a smaller one, which there is not. So no order
//! of dispatch, number of resident CTAs, or second launch beside it can deadlock. Drawing early, while the
//! item before is still in work, does not change that.

use core::marker::PhantomData;

use super::{
    board::Board,
    segments::{first_segment, items_before, next_part},
};
use crate::{
    counters,
    device::{bar_sync, block_idx_x, grid_dim_x, thread_idx_x},
    params::Params,
    tile::{Blocks, Tile},
};

/// Row tiles of a group.
const GROUP: u32 = 16;

/// A work item.
#[derive(Clone, Copy)]
pub(super) enum Work {
    /// BLOCK_M × BLOCK_N of h; which, stands on the board.
    H,
    /// BLOCK_M × BLOCK_N of y.
    Output { row_tile: u32, column_tile: u32 },
}

/// A tile of h: some columns of one segment's adapter.
#[derive(Clone, Copy)]
pub(crate) struct HItem {
    pub row_tile: u32,
    /// Number of the segment.
    pub segment: u32,
    /// Columns from `chunk · BLOCK_N` on.
    pub chunk: u32,
}

impl HItem {
    /// As the board shows it.
    #[inline(always)]
    pub(super) fn to_board(self) -> [u32; 4] {
        [H, self.row_tile, self.segment, self.chunk]
    }

    /// From the board.
    #[inline(always)]
    pub(crate) fn from_board([_, row_tile, segment, chunk]: [u32; 4]) -> Self {
        Self { row_tile, segment, chunk }
    }
}

/// Sizes in tiles.
#[derive(Clone, Copy)]
pub(crate) struct Grid {
    pub row_tiles: u32,
    pub column_tiles: u32,
}

impl Grid {
    #[inline(always)]
    pub(crate) fn new<T: Blocks>(params: &Params) -> Self {
        Self { row_tiles: params.m.div_ceil(T::BLOCK_M), column_tiles: params.n.div_ceil(T::BLOCK_N) }
    }

    #[inline(always)]
    pub(crate) fn outputs(self) -> u32 {
        self.row_tiles * self.column_tiles
    }

    /// Output tile number `index`, group by group, in a group column by column.
    #[inline(always)]
    pub(crate) fn output(self, index: u32) -> (u32, u32) {
        // `checked_div`, here and below: a plain one would bring the panic of a division by zero.
        let group = index.checked_div(GROUP * self.column_tiles).unwrap_or(0);
        self.output_in_group(group, index - group * GROUP * self.column_tiles)
    }

    #[inline(always)]
    fn output_in_group(self, group: u32, index: u32) -> (u32, u32) {
        let rows = (self.row_tiles - group * GROUP).min(GROUP);
        let column = index.checked_div(rows).unwrap_or(0);
        (group * GROUP + (index - column * rows), column)
    }
}

/// This CTA's share of `count` items, strided by the grid: for kernels in which nothing waits.
pub(super) struct Strided {
    /// Of the next item.
    index: u32,
    count: u32,
}

impl Strided {
    pub(super) fn new(count: u32) -> Self {
        Self { index: block_idx_x(), count }
    }

    /// The next item's number.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<u32> {
        let index = self.index;
        self.index += grid_dim_x();
        if index < self.count { Some(index) } else { None }
    }
}

/// The work items that this CTA draws.
pub(super) struct Tickets<'a, T> {
    tile: PhantomData<T>,
    params: &'a Params,
    grid: Grid,
    board: Board,
    /// How many items there are.
    count: u32,
    /// The leader's: drawn, not yet begun.
    ticket: u32,
}

impl<'a, T: Tile> Tickets<'a, T> {
    /// # Safety
    ///
    /// All threads of the CTA call it; `board` is the CTA's; counters and tables are as
    /// [`Lora`](crate::params::Lora) says.
    #[inline(always)]
    pub(super) unsafe fn new(params: &'a Params, board: Board) -> Self {
        let grid = Grid::new::<T>(params);
        let count = grid.outputs() + params.lora.h_items;
        let mut tickets = Self { tile: PhantomData, params, grid, board, count, ticket: 0 };
        // SAFETY: the caller's contract.
        unsafe { tickets.draw() };
        tickets
    }

    /// The leader draws its next ticket.
    ///
    /// # Safety
    ///
    /// As [`new`](Self::new).
    #[inline(always)]
    #[track_caller]
    unsafe fn draw(&mut self) {
        if thread_idx_x() == 0 {
            let counter = self.params.lora.counters.offset(u64::from(counters::TICKET));
            // Every CTA draws until it draws one that is not there: so many times in all that the count wraps
            // to zero.
            let last = self.count + grid_dim_x() - 1;
            // SAFETY: the counter is there by the caller's contract.
            self.ticket = unsafe { counter.atom_inc(last) };
        }
    }

    /// The next work item, the same for all threads.
    ///
    /// # Safety
    ///
    /// All threads of the CTA call it, each after a barrier that follows its last look at the board: an
    /// item's last step, [`store_tile`](super::store::store_tile), has two.
    #[inline(always)]
    pub(super) unsafe fn next(&mut self) -> Option<Work> {
        // SAFETY: the board is written by one thread, behind the barrier that the caller has passed, and read
        // by all behind this one, which also lets the next item write the shared memory that this one read.
        unsafe {
            if thread_idx_x() == 0 {
                self.board.set_work(encode::<T>(self.params, self.grid, self.ticket, self.count));
            }
            bar_sync();
            let [kind, row_tile, column_tile, _] = self.board.work();
            if kind == DONE {
                return None;
            }
            // Drawn now, needed when this item is done: the atomic's way to L2 and back is hidden.
            self.draw();
            Some(match kind {
                OUTPUT => Work::Output { row_tile, column_tile },
                _ => Work::H,
            })
        }
    }
}

/// Kinds of work on a board: none is left,
pub(crate) const DONE: u32 = 0;
/// a tile of y,
pub(crate) const OUTPUT: u32 = 1;
/// a tile of h.
pub(crate) const H: u32 = 2;

/// A tile of y as the board shows it: with the number of work items that its row tile's h consists of.
///
/// # Safety
///
/// The tables are as [`Lora`](crate::params::Lora) says.
#[inline(always)]
pub(crate) unsafe fn output<T: Blocks>(params: &Params, row_tile: u32, column_tile: u32) -> [u32; 4] {
    // SAFETY: row tiles up to and with their number have an entry in the table.
    let items = unsafe {
        items_before(&params.lora, T::H_COLUMNS, row_tile + 1)
            - items_before(&params.lora, T::H_COLUMNS, row_tile)
    };
    [OUTPUT, row_tile, column_tile, items]
}

/// What ticket number `ticket` stands for.
///
/// # Safety
///
/// The tables are as [`Lora`](crate::params::Lora) says.
#[inline(always)]
pub(crate) unsafe fn encode<T: Blocks>(params: &Params, grid: Grid, ticket: u32, tickets: u32) -> [u32; 4] {
    if ticket >= tickets {
        return [DONE, 0, 0, 0];
    }
    // SAFETY: row tiles up to and with their number have an entry in the table.
    let items_before = |row_tile| unsafe { items_before(&params.lora, T::H_COLUMNS, row_tile) };
    let first_ticket = |group: u32| {
        let row_tile = (group * GROUP).min(grid.row_tiles);
        items_before(row_tile) + row_tile * grid.column_tiles
    };
    let group = last_not_above(grid.row_tiles.div_ceil(GROUP), ticket, first_ticket);
    let index = ticket - first_ticket(group);

    let first_row_tile = group * GROUP;
    let group_row_tiles = (grid.row_tiles - first_row_tile).min(GROUP);
    let first_item = items_before(first_row_tile);
    let items = items_before(first_row_tile + group_row_tiles) - first_item;
    if index >= items {
        let (row_tile, column_tile) = grid.output_in_group(group, index - items);
        // SAFETY: as above.
        return unsafe { output::<T>(params, row_tile, column_tile) };
    }
    // SAFETY: as above.
    unsafe { h_item::<T>(params, first_row_tile, group_row_tiles, first_item + index) }.to_board()
}

/// Tile of h number `index` of all, which lies in one of `row_tiles` from `first_row_tile` on.
///
/// # Safety
///
/// The tables are as [`Lora`](crate::params::Lora) says.
#[inline(always)]
pub(crate) unsafe fn h_item<T: Blocks>(
    params: &Params,
    first_row_tile: u32,
    row_tiles: u32,
    index: u32,
) -> HItem {
    let lora = &params.lora;
    // SAFETY: row tiles up to and with their number have an entry in the table.
    unsafe {
        let items_before = |row_tile| items_before(lora, T::H_COLUMNS, row_tile);
        let row_tile =
            first_row_tile + last_not_above(row_tiles, index, |i| items_before(first_row_tile + i));
        let mut chunk = index - items_before(row_tile);
        let mut segment = first_segment(lora, row_tile);
        loop {
            let part = next_part(params, row_tile * T::BLOCK_M, T::BLOCK_M, &mut segment);
            let chunks = part.rank16().div_ceil(T::H_COLUMNS);
            if chunk < chunks || part.is_none() {
                // `next_part` has moved on. (None is not reached: `items_before` counts what `next_part`
                // finds.)
                return HItem { row_tile, segment: segment.wrapping_sub(1), chunk };
            }
            chunk -= chunks;
        }
    }
}

/// The last i < `count` with `start(i) <= value`; `start` does not fall, and `start(0) <= value`.
#[inline(always)]
fn last_not_above(count: u32, value: u32, start: impl Fn(u32) -> u32) -> u32 {
    let (mut low, mut high) = (0, count);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if start(middle) <= value {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

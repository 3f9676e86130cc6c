//! Which adapters a row tile needs: its segments, each with its rows, its columns and its place in the slabs.

use crate::{
    params::{Adapter, Lora, Params},
    tile::RANK_GRANULE,
};

/// A segment's part of one row tile.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// First row of the tile that belongs to it.
    pub begin: u32,
    /// The row after the last.
    pub end: u32,
    pub adapter: Adapter,
}

impl Part {
    /// No part. Not an `Option`: what is not initialised in its `None` would keep its registers through the K
    /// loop.
    pub(crate) const NONE: Self = Self {
        begin: 0,
        end: 0,
        adapter: Adapter {
            offset: 0,
            rank: 0,
            scale: 0.0,
            first_column: 0,
            last_column: 0,
            reserved: [0; 3],
        },
    };

    /// Whether there is no adapter.
    #[inline(always)]
    pub(crate) fn is_none(&self) -> bool {
        self.adapter.rank == 0
    }

    /// r rounded up to the granule.
    #[inline(always)]
    pub(crate) fn rank16(&self) -> u32 {
        self.adapter.rank.next_multiple_of(RANK_GRANULE)
    }
}

/// Number of the first segment that a row tile touches.
///
/// # Safety
///
/// The tables of `lora` are as [`Lora`] says.
#[inline(always)]
pub(crate) unsafe fn first_segment(lora: &Lora, row_tile: u32) -> u32 {
    if lora.segments.is_null() {
        0
    } else {
        // SAFETY: the table has an entry for each row tile.
        unsafe { lora.row_tiles.offset(2 * u64::from(row_tile)).load() }
    }
}

/// Work items of the shrink before those of `row_tile`.
///
/// # Safety
///
/// As [`first_segment`]; `row_tile` may be the number of row tiles.
#[inline(always)]
pub(crate) unsafe fn items_before(lora: &Lora, block_n: u32, row_tile: u32) -> u32 {
    if lora.segments.is_null() {
        row_tile * lora.uniform.rank.next_multiple_of(RANK_GRANULE).div_ceil(block_n)
    } else {
        // SAFETY: the table has one entry more than there are row tiles.
        unsafe { lora.row_tiles.offset(2 * u64::from(row_tile) + 1).load() }
    }
}

/// The next part of the row tile that starts at `first_row`, from segment number `*segment` on, that has an
/// adapter; moves `*segment` behind it. [`Part::NONE`] when there is no more.
///
/// # Safety
///
/// As [`first_segment`].
#[inline(always)]
pub(crate) unsafe fn next_part(params: &Params, first_row: u32, block_m: u32, segment: &mut u32) -> Part {
    let lora = &params.lora;
    let last_row = params.m.min(first_row + block_m);
    let mut part = Part::NONE;
    if lora.segments.is_null() {
        if *segment == 0 {
            part = Part { begin: 0, end: last_row - first_row, adapter: lora.uniform };
        }
        *segment = 1;
        return part;
    }
    while part.is_none() && *segment < lora.segment_count {
        // SAFETY: the table has `segment_count` entries of 16 bytes; the adapter's number is one of the other
        // table.
        unsafe {
            let [begin, end, adapter, _] = lora.segments.offset(u64::from(*segment)).load();
            if begin >= last_row {
                break;
            }
            *segment += 1;
            // It ends behind the tile's first row: the first one by the table, the others come after it.
            part = Part {
                begin: begin.saturating_sub(first_row),
                end: end.min(last_row) - first_row,
                adapter: load_adapter(lora, adapter),
            };
        }
    }
    part
}

/// # Safety
///
/// The table has that adapter.
#[inline(always)]
unsafe fn load_adapter(lora: &Lora, adapter: u32) -> Adapter {
    let at = lora.adapters.offset(2 * u64::from(adapter));
    // SAFETY: the caller's contract.
    let ([offset, rank, scale, first_column], [last_column, ..]) =
        unsafe { (at.load(), at.offset(1).load()) };
    Adapter { offset, rank, scale: f32::from_bits(scale), first_column, last_column, reserved: [0; 3] }
}

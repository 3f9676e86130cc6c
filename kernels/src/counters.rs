//! How the workspace's counters are laid out. All are zero before the first launch, and every launch leaves
//! them zero.
//!
//! | word | counts |
//! |---|---|
//! | 0 | tickets drawn |
//! | 32 + 2 i | work items of row tile i whose h is in the workspace |
//! | 32 + 2 i + 1 | tiles of y in row tile i that need its h no longer to be announced |
//!
//! Tickets have a cache line of their own: every CTA of the grid draws from it while others poll.

/// Word of the tickets.
pub const TICKET: u32 = 0;

/// Where the counters of row tiles start.
pub const FIRST_ROW_TILE: u32 = 32;

/// Words that `row_tiles` need.
#[must_use]
pub const fn words(row_tiles: u32) -> u32 {
    FIRST_ROW_TILE + 2 * row_tiles
}

/// Word of the finished work items of a row tile.
#[inline(always)]
#[must_use]
pub const fn finished(row_tile: u32) -> u32 {
    FIRST_ROW_TILE + 2 * row_tile
}

/// Word of the tiles of y that have passed.
#[inline(always)]
#[must_use]
pub const fn passed(row_tile: u32) -> u32 {
    FIRST_ROW_TILE + 2 * row_tile + 1
}

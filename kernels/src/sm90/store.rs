//! A tile of y from registers to global memory: the epilogue, f16, swizzled boxes in shared memory, the copy
//! engine. While it stores, the consumers multiply the next tile.

use super::{
    epilogue::BoxEpilogue,
    lane::{Lane, chunk},
    tile::{Tile, WARPGROUP, WARPGROUP_ROWS},
};
use crate::{
    device::{
        SharedAddr, Sums, bar_sync_some, bulk_commit_group, bulk_wait_group_read, fence_proxy_async_global,
        fence_proxy_async_shared, pack_f16x2, stmatrix_x4, store_box, thread_idx_x,
    },
    maps::Maps,
    params::Params,
};

/// The barrier of a consumer warpgroup's threads.
///
/// # Safety
///
/// All of them call it.
#[inline(always)]
#[track_caller]
pub(super) unsafe fn sync_warpgroup(warpgroup: u32) {
    // SAFETY: the caller's contract; no two warpgroups share a number.
    unsafe { bar_sync_some(1 + warpgroup, WARPGROUP) }
}

/// Finishes this warpgroup's rows of a tile of y, box by box, and starts storing them.
///
/// # Safety
///
/// All threads of the warpgroup call it; y and the epilogue's operands are as [`Params`] says, y's rows and
/// columns this warpgroup's.
#[inline(always)]
pub(super) unsafe fn store_tile<T: Tile, const R: usize>(
    params: &Params,
    maps: Maps,
    sums: Sums<R>,
    row_tile: u32,
    column_tile: u32,
    warpgroup: u32,
    shared: SharedAddr,
) {
    const { assert!(2 * R as u32 == T::BLOCK_N) };
    let lane = Lane::new();
    let leader = thread_idx_x().is_multiple_of(WARPGROUP);
    let first_row = row_tile * T::BLOCK_M + warpgroup * WARPGROUP_ROWS;
    let first_column = column_tile * T::BLOCK_N;
    let staging = shared.offset(T::STAGING_OFFSET + warpgroup * T::STAGING * T::BOX_BYTES);
    let mut sums = *sums.registers();
    let epilogue = BoxEpilogue::new(params, first_row, lane);
    let mut number = 0;
    while number < T::BLOCK_N / T::BOX_N {
        let to = staging.offset(number % T::STAGING * T::BOX_BYTES);
        let column = first_column + number * T::BOX_N;
        let first = (number * T::BOX_N / 2) as usize;
        // SAFETY: a place is written when the box before has been read from it, and read when all have
        // written and fenced; each warp writes its own rows.
        unsafe {
            if leader {
                wait_for_place::<T>();
            }
            sync_warpgroup(warpgroup);
            epilogue.finish::<T, R>(&mut sums, first, column, to);
            let mut i = 0;
            while i < T::BOX_N / 16 {
                // Eight registers are 16 columns.
                let at = first + 8 * i as usize;
                let [a, b, c, d] = [sums[at], sums[at + 1], sums[at + 2], sums[at + 3]];
                let [e, f, g, h] = [sums[at + 4], sums[at + 5], sums[at + 6], sums[at + 7]];
                let row = chunk::<T>(to, lane.matrix_row, 2 * i + lane.matrix_chunk);
                stmatrix_x4(row, [pack_f16x2(a, b), pack_f16x2(c, d), pack_f16x2(e, f), pack_f16x2(g, h)]);
                i += 1;
            }
            fence_proxy_async_shared();
            if epilogue.reads_residuals() {
                // They may be y itself, which the copy engine is about to write.
                fence_proxy_async_global();
            }
            sync_warpgroup(warpgroup);
            if leader {
                store_box(maps.y(), column, first_row, to);
                bulk_commit_group();
            }
        }
        number += 1;
    }
}

/// Waits until all boxes have been read from shared memory, before the CTA leaves it.
///
/// # Safety
///
/// All threads of the warpgroup call it, last.
#[inline(always)]
pub(super) unsafe fn wait_for_stores() {
    if thread_idx_x().is_multiple_of(WARPGROUP) {
        // SAFETY: no precondition.
        unsafe { bulk_wait_group_read::<0>() };
    }
}

/// Waits until the place of the next box has been read.
#[inline(always)]
#[track_caller]
unsafe fn wait_for_place<T: Tile>() {
    const { assert!(T::STAGING >= 1 && T::STAGING <= 3) };
    // SAFETY: no precondition.
    unsafe {
        match T::STAGING {
            1 => bulk_wait_group_read::<0>(),
            2 => bulk_wait_group_read::<1>(),
            _ => bulk_wait_group_read::<2>(),
        }
    }
}

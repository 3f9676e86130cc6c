//! A tile of y from registers to global memory: bias and residual, f16, swizzled boxes in shared memory, the copy
//! engine. While it stores, the consumers multiply the next tile.

use super::tile::{Tile, WARPGROUP, WARPGROUP_ROWS};
use crate::{
    Global,
    device::{
        SharedAddr, Sums, bar_sync_some, bulk_commit_group, bulk_wait_group_read, f16_to_f32,
        fence_proxy_async_global, fence_proxy_async_shared, pack_f16x2, stmatrix_x4, store_box, thread_idx_x,
    },
    params::Params,
    sm80::swizzle::chunk_at,
    tensor_map::Maps,
};

/// Where a thread's registers lie in its warpgroup's 64 rows.
#[derive(Clone, Copy)]
pub(super) struct Lane {
    /// First row of registers 4 j and 4 j + 1; the other two are 8 rows below.
    pub row: u32,
    /// Column of registers 4 j, less 8 j.
    pub column: u32,
    /// Row that this lane addresses for `stmatrix`.
    pub matrix_row: u32,
    /// Chunk of 16 bytes that it addresses, of two.
    pub matrix_chunk: u32,
}

impl Lane {
    #[inline(always)]
    pub(super) fn new() -> Self {
        let thread = thread_idx_x() % WARPGROUP;
        let (warp, lane) = (thread / 32, thread % 32);
        Self {
            row: 16 * warp + lane / 4,
            column: 2 * (lane % 4),
            matrix_row: 16 * warp + lane % 16,
            matrix_chunk: lane / 16,
        }
    }
}

/// The barrier of a consumer warpgroup's threads.
///
/// # Safety
///
/// All of them call it.
#[inline(always)]
#[cfg_attr(not(target_arch = "nvptx64"), track_caller)]
pub(super) unsafe fn sync_warpgroup(warpgroup: u32) {
    // SAFETY: the caller's contract; no two warpgroups share a number.
    unsafe { bar_sync_some(1 + warpgroup, WARPGROUP) }
}

/// Adds bias and residual and starts storing this warpgroup's rows of a tile of y.
///
/// # Safety
///
/// All threads of the warpgroup call it; y, bias and residual are as [`Params`] says, y's rows and columns this
/// warpgroup's.
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
    if !params.epilogue.bias.is_null() || !params.epilogue.residual.is_null() {
        // SAFETY: bias and residual are as `Params` says.
        unsafe {
            finish(params, &mut sums, first_row + lane.row, first_column + lane.column);
            if !params.epilogue.residual.is_null() {
                // It may be y itself, which the copy engine is about to write.
                fence_proxy_async_global();
            }
        }
    }
    let mut j = 0;
    while j < R / 8 {
        // Registers 8 j to 8 j + 7 are 16 columns.
        let column = 16 * j as u32;
        let (number, within) = (column / T::BOX_N, column % T::BOX_N);
        let to = staging.offset(number % T::STAGING * T::BOX_BYTES);
        // SAFETY: a place is written when the box before has been read from it, and read when all have written and
        // fenced; each lane writes its own rows.
        unsafe {
            if within == 0 {
                if leader {
                    wait_for_place::<T>();
                }
                sync_warpgroup(warpgroup);
            }
            let [a, b, c, d] = [sums[8 * j], sums[8 * j + 1], sums[8 * j + 2], sums[8 * j + 3]];
            let [e, f, g, h] = [sums[8 * j + 4], sums[8 * j + 5], sums[8 * j + 6], sums[8 * j + 7]];
            let row = chunk::<T>(to, lane.matrix_row, within / 8 + lane.matrix_chunk);
            stmatrix_x4(row, [pack_f16x2(a, b), pack_f16x2(c, d), pack_f16x2(e, f), pack_f16x2(g, h)]);
            if within + 16 == T::BOX_N {
                fence_proxy_async_shared();
                sync_warpgroup(warpgroup);
                if leader {
                    store_box(maps.y(), first_column + number * T::BOX_N, first_row, to);
                    bulk_commit_group();
                }
            }
        }
        j += 1;
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
#[cfg_attr(not(target_arch = "nvptx64"), track_caller)]
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

/// Where a chunk of 16 bytes of a box's row lies.
#[inline(always)]
fn chunk<T: Tile>(to: SharedAddr, row: u32, chunk: u32) -> SharedAddr {
    match T::BOX_N {
        64 => chunk_at::<128>(to, row, chunk),
        32 => chunk_at::<64>(to, row, chunk),
        _ => chunk_at::<32>(to, row, chunk),
    }
}

/// Adds bias and residual to a thread's registers, of which the first is of `row` and `column`.
///
/// # Safety
///
/// Bias and residual are as [`Params`] says.
#[inline(always)]
unsafe fn finish<const R: usize>(params: &Params, sums: &mut [f32; R], row: u32, column: u32) {
    let epilogue = &params.epilogue;
    let mut j = 0;
    while j < R / 4 {
        let column = column + 8 * j as u32;
        let present = params.n.saturating_sub(column);
        let mut below = 0;
        while below < 2 {
            let at = 4 * j + 2 * below;
            let row = row + 8 * below as u32;
            // SAFETY: columns that are not there are left out, and rows, too.
            unsafe {
                if !epilogue.bias.is_null() {
                    add(sums, at, epilogue.bias.offset(u64::from(column)), present);
                }
                if !epilogue.residual.is_null() && row < params.m {
                    let offset = u64::from(row) * u64::from(epilogue.ld_residual) + u64::from(column);
                    add(sums, at, epilogue.residual.offset(offset), present);
                }
            }
            below += 1;
        }
        j += 1;
    }
}

/// Adds up to two elements.
///
/// # Safety
///
/// `present` are readable at `from`.
#[inline(always)]
#[cfg_attr(not(target_arch = "nvptx64"), track_caller)]
unsafe fn add<const R: usize>(sums: &mut [f32; R], at: usize, from: Global<u16>, present: u32) {
    // SAFETY: the caller's contract.
    unsafe {
        if present >= 1 {
            sums[at] += f16_to_f32(from.load());
        }
        if present >= 2 {
            sums[at + 1] += f16_to_f32(from.offset(1).load());
        }
    }
}

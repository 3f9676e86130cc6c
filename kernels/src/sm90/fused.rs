//! Base, shrink and expand in one launch, h shared between CTAs by way of the workspace.

use core::marker::PhantomData;

use super::{
    board::Board,
    cluster::Cluster,
    consumer::Consumer,
    cta::{Clusters, Roles, run},
    h_tile::store_h,
    producer::Producer,
    schedule::steps,
    store::{store_tile, wait_for_stores},
    tile::{Tile, WARPGROUP},
};
use crate::{
    counters,
    device::{
        Pending, Registers, STEP_BYTES, SharedAddr, Sums, bar_sync_some, fence_proxy_async_global,
        grid_dim_x, opaque, thread_idx_x,
    },
    maps::Maps,
    params::Params,
    sm80::{
        hand_over,
        schedule::{DONE, Grid, HItem, OUTPUT, encode},
    },
};

/// The barrier of all consumers.
const CONSUMERS_BARRIER: u32 = 15;

/// `y = f16( activation( x Wᵀ + f16( s · x Aᵀ ) Bᵀ + bias ) + residuals )`, any number of adapters of any
/// rank.
///
/// Tiles of h are work items like tiles of y, in the order of `sm80/schedule.rs`. A tile of y runs the
/// whole K loop of the base before it needs its row tile's h; B is loaded before that is waited for.
///
/// # Parameters
///
/// [`TensorParams`](crate::tensor_map::TensorParams) with `lora`; `ldh` is the largest sum of r₁₆ over the
/// segments of a row tile; a row tile's segments lie side by side in h, and have up to
/// [`MAX_CHUNKS`](super::tile::MAX_CHUNKS) steps of the expand together, ⌈r₁₆ / 64⌉ each. `h_items` and
/// `row_tiles` are counted in tiles of `T::H_COLUMNS`. The counters are zero, and zero again when the launch
/// is over. B is zero in rows outside its adapter's columns.
///
/// # Tiling
///
/// As [`gemm`](super::gemm), without clusters; H = H_COLUMNS / 2.
///
/// # Safety
///
/// As [`gemm`](super::gemm). No other launch uses the same workspace at the same time.
#[inline(always)]
pub unsafe fn fused<T: Tile, const R: usize, const H: usize>(maps: Maps, params: &Params)
where
    [f32; R]: Registers,
    [f32; H]: Registers,
{
    // SAFETY: the caller's contract.
    unsafe { run::<T, _>(maps, &Shared::<R, H, T> { maps, params, tile: PhantomData }) }
}

struct Shared<'a, const R: usize, const H: usize, T> {
    maps: Maps,
    params: &'a Params,
    tile: PhantomData<T>,
}

impl<const R: usize, const H: usize, T: Tile> Shared<'_, R, H, T> {
    /// # Safety
    ///
    /// One thread of the CTA; the counter is as [`Lora`](crate::params::Lora) says.
    #[inline(always)]
    #[track_caller]
    unsafe fn draw(&self, tickets: u32) -> u32 {
        let counter = self.params.lora.counters.offset(u64::from(counters::TICKET));
        // Every CTA draws until it draws one that is not there: so many times in all that the count wraps to
        // zero. SAFETY: the caller's contract.
        unsafe { counter.atom_inc(tickets + grid_dim_x() - 1) }
    }
}

impl<const R: usize, const H: usize, T: Tile> Roles for Shared<'_, R, H, T>
where
    [f32; R]: Registers,
    [f32; H]: Registers,
{
    const CLUSTERS: Clusters = Clusters::No;

    #[inline(always)]
    unsafe fn produce(&self, shared: SharedAddr, cluster: Cluster) {
        let mut producer = Producer::<T>::new(self.params, self.maps, shared, cluster);
        let grid = Grid::new::<T>(self.params);
        let tickets = grid.outputs() + self.params.lora.h_items;
        // SAFETY: a ticket stands for one item, which waits for those of smaller tickets alone.
        unsafe {
            let mut ticket = self.draw(tickets);
            loop {
                let work @ [kind, row_tile, column_tile, items] =
                    encode::<T>(self.params, grid, ticket, tickets);
                if kind == DONE {
                    break;
                }
                // Needed when this item is loaded: the atomic's way to L2 and back is hidden.
                ticket = self.draw(tickets);
                if kind == OUTPUT {
                    producer.with_shared_h(row_tile, column_tile, items);
                } else {
                    producer.h(HItem::from_board(work));
                }
            }
            producer.finish();
        }
    }

    #[inline(always)]
    unsafe fn consume(&self, shared: SharedAddr, cluster: Cluster, warpgroup: u32) {
        let mut consumer = Consumer::<T>::new(shared, cluster, warpgroup);
        let mut board = Board::<T>::first(shared);
        let steps = steps::<T>(self.params.k);
        // SAFETY: consumers follow the boards, and the slots of each item in their order.
        unsafe {
            loop {
                board.wait_until_full();
                let [kind, ..] = board.item();
                if kind == DONE {
                    break;
                }
                // Opaque: where both tests are one, ptxas takes the loop for divergent, and nothing in it
                // for uniform.
                if opaque(kind) == OUTPUT {
                    let mut sums = consumer.multiply(steps, Pending::from_sums(Sums::<R>::zero()));
                    let [chunks, ..] = board.more();
                    let mut i = 0;
                    while i < chunks {
                        sums = consumer.expand::<R, STEP_BYTES>(board.chunk(i), None, sums);
                        i += 1;
                    }
                    let sums = consumer.finish(sums);
                    let [_, row_tile, column_tile, _] = board.item();
                    board.release();
                    store_tile::<T, R>(
                        self.params,
                        self.maps,
                        sums,
                        row_tile,
                        column_tile,
                        warpgroup,
                        shared,
                    );
                } else {
                    let sums = Pending::from_sums(Sums::<H>::zero());
                    let sums = consumer.multiply::<H>(steps, sums);
                    let sums = consumer.finish::<H>(sums);
                    store_h::<T, H>(self.params, board, warpgroup, sums);
                    let [_, row_tile, ..] = board.item();
                    board.release();
                    // The copy engine of another CTA loads it.
                    fence_proxy_async_global();
                    // All threads have stored their part before one says so.
                    bar_sync_some(CONSUMERS_BARRIER, T::CONSUMERS * WARPGROUP);
                    if thread_idx_x() == 0 {
                        hand_over::publish(&self.params.lora, row_tile);
                    }
                }
                board.advance();
            }
            wait_for_stores();
        }
    }
}

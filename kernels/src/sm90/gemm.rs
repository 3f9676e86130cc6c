//! The base product: y = x Wᵀ and its epilogue.

use super::{
    board::Board,
    cluster::Cluster,
    consumer::Consumer,
    cta::{Clusters, Roles, run},
    producer::Producer,
    schedule::{Clustered, steps},
    store::{store_tile, wait_for_stores},
    tile::Tile,
};
use crate::{
    device::{Pending, Registers, SharedAddr, Sums},
    maps::Maps,
    params::Params,
    sm80::schedule::DONE,
};

/// `y = f16( activation( x Wᵀ + bias ) + residuals )`, tiles of y strided by the grid.
///
/// # Parameters
///
/// [`TensorParams`](crate::tensor_map::TensorParams) without `lora`. Any M, N, K from 1 on.
///
/// # Tiling
///
/// As `T` says; R = BLOCK_N / 2. A cluster takes neighbouring column tiles of one row tile, and each of its
/// CTAs loads its share of x for all. Any number of clusters is right; as many as are resident at once, or
/// fewer, are fast.
///
/// # Safety
///
/// The operands are as [`Params`] says, the maps as [`TensorMaps`](crate::tensor_map::TensorMaps) says;
/// launched with `T::THREADS` threads, `T::SHARED_BYTES` of dynamic shared memory, and clusters of 1, 2, 4 or
/// 8.
#[inline(always)]
pub unsafe fn gemm<T: Tile, const R: usize>(maps: Maps, params: &Params)
where
    [f32; R]: Registers,
{
    // SAFETY: the caller's contract.
    unsafe { run::<T, _>(maps, &Gemm::<R, T> { maps, params, tile: core::marker::PhantomData }) }
}

struct Gemm<'a, const R: usize, T> {
    maps: Maps,
    params: &'a Params,
    tile: core::marker::PhantomData<T>,
}

impl<const R: usize, T: Tile> Roles for Gemm<'_, R, T>
where
    [f32; R]: Registers,
{
    const CLUSTERS: Clusters = Clusters::AnySize;

    #[inline(always)]
    unsafe fn produce(&self, shared: SharedAddr, cluster: Cluster) {
        let mut producer = Producer::<T>::new(self.params, self.maps, shared, cluster);
        let mut tiles = Clustered::new::<T>(self.params, cluster);
        // SAFETY: the CTAs of a cluster take the same row tiles in the same order.
        unsafe {
            while tiles.next() {
                producer.base(tiles.row_tile, tiles.column_tile);
            }
            producer.finish();
        }
    }

    #[inline(always)]
    unsafe fn consume(&self, shared: SharedAddr, cluster: Cluster, warpgroup: u32) {
        let mut consumer = Consumer::<T>::new(shared, cluster, warpgroup);
        let mut board = Board::<T>::first(shared);
        // SAFETY: consumers follow the boards, and the slots of each item in their order.
        unsafe {
            loop {
                board.wait_until_full();
                let [kind, row_tile, column_tile, _] = board.item();
                board.release();
                if kind == DONE {
                    break;
                }
                let sums =
                    consumer.multiply(steps::<T>(self.params.k), Pending::from_sums(Sums::<R>::zero()));
                let sums = consumer.finish(sums);
                store_tile::<T, R>(self.params, self.maps, sums, row_tile, column_tile, warpgroup, shared);
                board.advance();
            }
            wait_for_stores();
        }
    }
}

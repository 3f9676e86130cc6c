//! Base, shrink and expand in one launch, h made together by the CTAs of a cluster.

use core::marker::PhantomData;

use super::{
    barriers::Turn,
    board::Board,
    cluster::Cluster,
    consumer::Consumer,
    cta::{Clusters, Roles, run},
    own_h::{self, h_of},
    producer::Producer,
    schedule::{Clustered, steps},
    sliced_h,
    slices::Slices,
    store::{store_tile, wait_for_stores},
    tile::{PANEL_BYTES, Tile},
};
use crate::{
    device::{Descriptor, Pending, Registers, SharedAddr, Sums},
    maps::Maps,
    params::Params,
    sm80::schedule::DONE,
};

/// `y = f16( activation( x Wᵀ + f16( s · x Aᵀ ) Bᵀ + bias ) + residuals )`, any number of adapters, of ranks
/// of MAX_RANK together in a row tile, or H times the CTAs of a cluster, whichever is less.
///
/// While x passes through shared memory for the base, each CTA multiplies it by its panels of A, too: W's and
/// A's rows are one operand of `wgmma` where its 256 columns suffice. Then h goes around in the cluster, and
/// the expand is more steps from the same ring into the same sums.
///
/// # Parameters
///
/// [`TensorParams`](crate::tensor_map::TensorParams) with `lora`, of which `h` and `counters` are not used. B
/// is zero in rows outside its adapter's columns.
///
/// # Tiling
///
/// As [`gemm`](super::gemm); R = (BLOCK_N + H) / 2, or Y where that is more than 128, Y = BLOCK_N / 2, P = H
/// / 2.
///
/// # Safety
///
/// As [`gemm`](super::gemm).
#[inline(always)]
pub unsafe fn fused_cooperative<T: Tile, const R: usize, const Y: usize, const P: usize>(
    maps: Maps,
    params: &Params,
) where
    [f32; R]: Registers,
    [f32; Y]: Registers,
    [f32; P]: Registers,
{
    const {
        assert!(2 * Y as u32 == T::BLOCK_N && 2 * P as u32 == T::H);
        assert!(if T::ONE_OPERAND { R == Y + P } else { R == Y });
    };
    // SAFETY: the caller's contract.
    unsafe { run::<T, _>(maps, &Cooperative::<R, Y, P, T> { maps, params, tile: PhantomData }) }
}

struct Cooperative<'a, const R: usize, const Y: usize, const P: usize, T> {
    maps: Maps,
    params: &'a Params,
    tile: PhantomData<T>,
}

impl<const R: usize, const Y: usize, const P: usize, T: Tile> Roles for Cooperative<'_, R, Y, P, T>
where
    [f32; R]: Registers,
    [f32; Y]: Registers,
    [f32; P]: Registers,
{
    // A CTA's own steps follow each other with one between at least: else x, in registers, would be read while
    // the products of the step before still read it there.
    const CLUSTERS: Clusters = if T::SLICED { Clusters::Yes } else { Clusters::AnySize };

    #[inline(always)]
    unsafe fn produce(&self, shared: SharedAddr, cluster: Cluster) {
        let mut producer = Producer::<T>::new(self.params, self.maps, shared, cluster);
        let mut tiles = Clustered::new::<T>(self.params, cluster);
        // SAFETY: the CTAs of a cluster take the same row tiles in the same order.
        unsafe {
            while tiles.next() {
                producer.with_own_h(tiles.row_tile, tiles.column_tile);
            }
            producer.finish();
        }
    }

    #[inline(always)]
    unsafe fn consume(&self, shared: SharedAddr, cluster: Cluster, warpgroup: u32) {
        let mut consumer = Consumer::<T>::new(shared, cluster, warpgroup);
        let mut board = Board::<T>::first(shared);
        let mut turn = Turn::FIRST;
        let steps = steps::<T>(self.params.k);
        // SAFETY: consumers follow the boards, and the slots of each item in their order; whether a row tile
        // has h is the same for all CTAs of a cluster.
        unsafe {
            loop {
                board.wait_until_full();
                let [kind, _, _, panels] = board.item();
                if kind == DONE {
                    break;
                }
                let y;
                if panels > 0 {
                    let [chunks, own, ..] = board.more();
                    // In the last steps A goes ahead of W.
                    let late = T::LATE_STEPS.min(steps - 1);
                    // W's first late step is under way while h is rounded, the others while it goes
                    // around. Of the last products before it nothing is waited for but what it leaves
                    // behind itself.
                    let (mut sums, h);
                    if T::SLICED {
                        let mut slices = Slices::new(cluster);
                        let base = Pending::from_sums(Sums::<Y>::zero());
                        let part = Pending::from_sums(Sums::<P>::zero());
                        let (base, part) = consumer.multiply_sliced(steps - late, &mut slices, base, part);
                        let part = consumer.multiply_ahead_sliced(late, &mut slices, part);
                        slices.end();
                        let (base, part) = consumer.multiply_sliced(1, &mut slices, base, part);
                        sums = base;
                        h = part.settle::<1>();
                    } else if T::ONE_OPERAND {
                        let all = consumer.multiply(steps - late, Pending::from_sums(Sums::<R>::zero()));
                        // Sums of their own, added once: on the registers behind `first` ptxas would
                        // serialise.
                        let ahead = Pending::from_sums(Sums::<P>::zero());
                        let ahead = consumer.multiply_ahead(late, ahead);
                        let (first, second) = all.settle::<1>().split::<Y, P>();
                        sums = consumer.multiply(1, Pending::from_sums(first));
                        h = second.plus(ahead.settle::<1>());
                    } else {
                        let base = Pending::from_sums(Sums::<Y>::zero());
                        let apart = Pending::from_sums(Sums::<P>::zero());
                        let (base, apart) = consumer.multiply_apart(steps - late, base, apart);
                        let ahead = consumer.multiply_ahead(late, apart);
                        sums = consumer.multiply(1, base);
                        h = ahead.settle::<1>();
                    }
                    if T::SLICED {
                        sliced_h::send(&consumer, turn, &h);
                    } else {
                        own_h::send(&consumer, board, turn, panels, own, h);
                    }
                    if late > 1 {
                        sums = consumer.multiply(late - 1, sums);
                    }
                    if T::SLICED {
                        sliced_h::receive::<T, P>(&consumer, board, turn);
                    } else {
                        own_h::receive(&consumer, turn);
                    }
                    let mut i = 0;
                    while i < chunks {
                        let chunk = board.chunk(i);
                        let h = h_of::<T>(shared, warpgroup).offset(chunk.panel * PANEL_BYTES);
                        sums =
                            consumer.expand::<Y, PANEL_BYTES>(chunk, Some(Descriptor::rows_of_32(h)), sums);
                        i += 1;
                    }
                    y = consumer.finish(sums);
                    if T::SLICED {
                        sliced_h::release(&consumer);
                    } else {
                        own_h::release(&consumer);
                    }
                    turn.advance(1);
                } else {
                    let sums = consumer.multiply(steps, Pending::from_sums(Sums::<Y>::zero()));
                    y = consumer.finish(sums);
                }
                let [_, row_tile, column_tile, _] = board.item();
                board.release();
                store_tile::<T, Y>(self.params, self.maps, y, row_tile, column_tile, warpgroup, shared);
                board.advance();
            }
            wait_for_stores();
        }
    }
}

//! The base product where tiles are few and K is long: the CTAs of a cluster share a tile, each sums part of
//! K.

use core::marker::PhantomData;

use super::{
    barriers::{Barriers, Turn, wait},
    cluster::Cluster,
    consumer::Consumer,
    cta::{Clusters, Roles, run},
    lane::Lane,
    producer::Producer,
    store::sync_warpgroup,
    tile::{BLOCK_K, Tile, WARPGROUP, WARPGROUP_ROWS},
};
use crate::{
    device::{
        Pending, Registers, SharedAddr, Sums, clusterid_x, copy_to_cluster, fence_proxy_async_shared, mapa,
        mbarrier_arrive_expect_tx, thread_idx_x,
    },
    maps::Maps,
    params::Params,
    sm80::{
        epilogue::Epilogued,
        schedule::Grid,
        store::{Finish, WIDTH, store_row},
    },
};

/// `y = f16( activation( x Wᵀ + bias ) + residuals )`, one tile of y for each cluster.
///
/// Each CTA multiplies its share of K. Then it owns some columns of the tile: the others send it their sums
/// of these by the copy engine, and it adds them in the order of their ranks, so that the result does not
/// depend on who is first.
///
/// # Parameters
///
/// As [`gemm`](super::gemm); y needs no tensor map, but its base and row stride are multiples of 16 bytes as
/// well.
///
/// # Tiling
///
/// As [`gemm`](super::gemm), but the grid has exactly as many clusters as there are tiles of y.
///
/// # Safety
///
/// As [`gemm`](super::gemm), in clusters of 2, 4 or 8, up to BLOCK_N / 16 and up to K / 64, rounded up.
#[inline(always)]
pub unsafe fn gemm_split_k<T: Tile, const R: usize>(maps: Maps, params: &Params)
where
    [f32; R]: Registers,
{
    const { assert!(T::SPLIT_K) };
    // SAFETY: the caller's contract.
    unsafe { run::<T, _>(maps, &SplitK::<R, T> { maps, params, tile: PhantomData }) }
}

struct SplitK<'a, const R: usize, T> {
    maps: Maps,
    params: &'a Params,
    tile: PhantomData<T>,
}

impl<const R: usize, T: Tile> SplitK<'_, R, T> {
    /// The cluster's tile.
    #[inline(always)]
    fn tile(&self) -> (u32, u32) {
        Grid::new::<T>(self.params).output(clusterid_x())
    }

    /// The CTA's first step of K, and the one after its last.
    #[inline(always)]
    fn steps(&self, cluster: Cluster) -> (u32, u32) {
        let steps = self.params.k.div_ceil(BLOCK_K);
        let share = |rank: u32| (steps * rank).checked_div(cluster.size()).unwrap_or(0);
        (share(cluster.rank()), share(cluster.rank() + 1))
    }
}

impl<const R: usize, T: Tile> Roles for SplitK<'_, R, T>
where
    [f32; R]: Registers,
{
    const CLUSTERS: Clusters = Clusters::Yes;

    #[inline(always)]
    unsafe fn produce(&self, shared: SharedAddr, cluster: Cluster) {
        let mut producer = Producer::<T>::new(self.params, self.maps, shared, cluster);
        let (row_tile, column_tile) = self.tile();
        let (first, last) = self.steps(cluster);
        // SAFETY: the consumers multiply the same steps.
        unsafe { producer.load_steps(row_tile, column_tile, 0, first, last) };
    }

    #[inline(always)]
    unsafe fn consume(&self, shared: SharedAddr, cluster: Cluster, warpgroup: u32) {
        let mut consumer = Consumer::<T>::new(shared, cluster, warpgroup);
        let (first, last) = self.steps(cluster);
        // SAFETY: the producer loads the same steps; all warpgroups of this number in the cluster exchange
        // theirs.
        unsafe {
            let sums = consumer.multiply(last - first, Pending::from_sums(Sums::<R>::zero()));
            let sums = consumer.finish(sums);
            let partials = Partials::<T>::new(shared, cluster, warpgroup);
            partials.exchange(&sums);
            let (row_tile, column_tile) = self.tile();
            partials.store(self.params, row_tile, column_tile);
        }
    }
}

/// Sums of a warpgroup's 64 rows by a CTA's share of the columns, one for each CTA: those that this one has
/// made, and those that it has been sent.
struct Partials<T> {
    sent: SharedAddr,
    received: SharedAddr,
    barrier: SharedAddr,
    cluster: Cluster,
    warpgroup: u32,
    /// Columns of a share, as a power of two.
    log_columns: u32,
    tile: PhantomData<T>,
}

impl<T: Tile> Partials<T> {
    #[inline(always)]
    fn new(shared: SharedAddr, cluster: Cluster, warpgroup: u32) -> Self {
        let sent = shared.offset(T::PARTIALS_OFFSET + warpgroup * 2 * T::PARTIAL_BYTES);
        Self {
            sent,
            received: sent.offset(T::PARTIAL_BYTES),
            barrier: Barriers::<T>::new(shared).h_full(warpgroup),
            cluster,
            warpgroup,
            log_columns: T::BLOCK_N.trailing_zeros() - cluster.size().trailing_zeros(),
            tile: PhantomData,
        }
    }

    /// Bytes of one CTA's share.
    #[inline(always)]
    fn share_bytes(&self) -> u32 {
        (WARPGROUP_ROWS * 4) << self.log_columns
    }

    /// Where four columns of a row lie in a share. Rows that are written or read at once have theirs in
    /// different banks, as far as a row's length allows.
    #[inline(always)]
    fn place(&self, row: u32, column: u32) -> u32 {
        let chunks = (1 << self.log_columns) / 4;
        ((row << self.log_columns) + 4 * ((column / 4) ^ (row & (chunks - 1) & 7)) + column % 4) * 4
    }

    /// Sends the others their shares of `sums`, and waits for their sums of this CTA's.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup call it, once in a launch, in all CTAs of the cluster.
    #[inline(always)]
    unsafe fn exchange<const R: usize>(&self, sums: &Sums<R>) {
        const { assert!(2 * R as u32 == T::BLOCK_N) };
        let lane = Lane::new();
        let thread = thread_idx_x() % WARPGROUP;
        let mask = (1 << self.log_columns) - 1;
        // SAFETY: each thread writes its own sums, which are fenced before they are copied; the places in the
        // other CTAs are written by this one alone, once.
        unsafe {
            let mut j = 0;
            while j < R / 4 {
                let column = 8 * j as u32 + lane.column;
                let share = self.sent.offset((column >> self.log_columns) * self.share_bytes());
                let [a, b] = [sums.registers()[4 * j], sums.registers()[4 * j + 1]].map(f32::to_bits);
                let [c, d] = [sums.registers()[4 * j + 2], sums.registers()[4 * j + 3]].map(f32::to_bits);
                share.offset(self.place(lane.row, column & mask)).store_v2([a, b]);
                share.offset(self.place(lane.row + 8, column & mask)).store_v2([c, d]);
                j += 1;
            }
            fence_proxy_async_shared();
            sync_warpgroup(self.warpgroup);
            let (rank, size) = (self.cluster.rank(), self.cluster.size());
            if thread == 0 {
                mbarrier_arrive_expect_tx(self.barrier, (size - 1) * self.share_bytes());
            }
            if thread < size && thread != rank {
                copy_to_cluster(
                    mapa(self.received.offset(rank * self.share_bytes()), thread),
                    self.sent.offset(thread * self.share_bytes()),
                    self.share_bytes(),
                    mapa(self.barrier, thread),
                );
            }
            wait(self.barrier, Turn::FIRST.parity);
        }
    }

    /// Adds this CTA's share of all CTAs, and stores it to y.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup call it, after [`exchange`](Self::exchange); y is as [`Params`] says.
    #[inline(always)]
    unsafe fn store(&self, params: &Params, row_tile: u32, column_tile: u32) {
        let (rank, size) = (self.cluster.rank(), self.cluster.size());
        let first_row = row_tile * T::BLOCK_M + self.warpgroup * WARPGROUP_ROWS;
        let first_column = column_tile * T::BLOCK_N + (rank << self.log_columns);
        let log_groups = self.log_columns - WIDTH.trailing_zeros();
        let epilogue = Epilogued::<false> { params, first_row, first_column };
        let mut group = thread_idx_x() % WARPGROUP;
        while group < WARPGROUP_ROWS << log_groups {
            let (row, column) = (group >> log_groups, (group & ((1 << log_groups) - 1)) * WIDTH);
            let present = params.n.saturating_sub(first_column + column).min(WIDTH);
            if first_row + row < params.m && present > 0 {
                let mut sums = [0.0; WIDTH as usize];
                let mut source = 0;
                while source < size {
                    // What a CTA has made itself it has not been sent.
                    let from = if source == rank { self.sent } else { self.received };
                    let from = from.offset(source * self.share_bytes());
                    // SAFETY: own sums were written before the warpgroup's barrier, others' have landed.
                    unsafe {
                        let [a, b, c, d] = from.offset(self.place(row, column)).load_v4();
                        let [e, f, g, h] = from.offset(self.place(row, column + 4)).load_v4();
                        let partial = [a, b, c, d, e, f, g, h].map(f32::from_bits);
                        let mut i = 0;
                        while i < WIDTH as usize {
                            sums[i] += partial[i];
                            i += 1;
                        }
                    }
                    source += 1;
                }
                let at =
                    u64::from(first_row + row) * u64::from(params.ldy) + u64::from(first_column + column);
                // SAFETY: the row and these columns are there, and this thread's; y and its row stride are
                // multiples of 16 bytes, as for tensor maps.
                unsafe {
                    let sums = epilogue.finish(row, column, present, sums);
                    store_row(params.y.offset(at), sums, present, true);
                }
            }
            group += WARPGROUP;
        }
    }
}

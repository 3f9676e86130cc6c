//! Which tiles of y a cluster takes, where nothing waits; and in how many steps.

use super::{
    cluster::Cluster,
    tile::{BLOCK_K, Tile},
};
use crate::{
    device::{clusterid_x, nclusterid_x},
    params::Params,
    sm80::schedule::Grid,
};

/// This CTA's tiles: those of its cluster, neighbours in a row tile, strided by the grid.
///
/// Groups of row tiles are taken column by column, so that W is read once a group and x stays in L2.
pub(super) struct Clustered {
    /// Row tiles, and groups of column tiles.
    grid: Grid,
    cluster: Cluster,
    index: u32,
    /// Of the latest tile.
    pub row_tile: u32,
    /// Of the latest tile; of a cluster's last CTAs it may be behind y's.
    pub column_tile: u32,
}

impl Clustered {
    #[inline(always)]
    pub(super) fn new<T: Tile>(params: &Params, cluster: Cluster) -> Self {
        let Grid { row_tiles, column_tiles } = Grid::new::<T>(params);
        // `checked_div`: a plain one would bring the panic of a division by zero.
        let groups = (column_tiles + cluster.size() - 1).checked_div(cluster.size()).unwrap_or(0);
        let grid = Grid { row_tiles, column_tiles: groups };
        Self { grid, cluster, index: clusterid_x(), row_tile: 0, column_tile: 0 }
    }

    /// Goes to the next tile, if there is one.
    #[inline(always)]
    pub(super) fn next(&mut self) -> bool {
        if self.index >= self.grid.outputs() {
            return false;
        }
        let (row_tile, group) = self.grid.output(self.index);
        self.row_tile = row_tile;
        self.column_tile = group * self.cluster.size() + self.cluster.rank();
        self.index += nclusterid_x();
        true
    }
}

/// Steps of the base.
#[inline(always)]
pub(super) fn steps<T: Tile>(k: u32) -> u32 {
    k.div_ceil(BLOCK_K).max(T::FEWEST_STEPS)
}

//! The cells that are measured, their fixed order, and how a grid is split over hosts.

use std::fmt;
use std::str::FromStr;

/// Sequence lengths of the grid: the columns of the figure.
pub const SEQ_LENS: [usize; 3] = [128, 256, 512];
/// Batch sizes of the grid: the x axis of a panel.
pub const BATCHES: [usize; 6] = [1, 2, 4, 8, 16, 32];
/// Adapter ranks of the grid: the y axis of a panel.
pub const RANKS: [usize; 4] = [0, 10, 100, 250];

/// Sequences of which one token each is measured.
pub const DECODE_BATCHES: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];
/// Adapter ranks beside few tokens.
pub const DECODE_RANKS: [usize; 6] = [0, 10, 16, 64, 100, 250];

/// One point of the grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cell {
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Sequences per batch.
    pub batch: usize,
    /// Rank of the adapter; 0 is no adapter.
    pub rank: usize,
}

impl Cell {
    /// The rows of x: `batch · seq_len` tokens.
    #[must_use]
    pub fn m(&self) -> usize {
        self.batch * self.seq_len
    }
}

/// `seq128/batch4/r10`: the name by which Criterion's filter finds the cell.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq{}/batch{}/r{}", self.seq_len, self.batch, self.rank)
    }
}

/// The whole grid, in the one order that ordinals and shards count in: by seq_len, batch, rank.
pub fn grid() -> impl Iterator<Item = Cell> {
    SEQ_LENS.into_iter().flat_map(|seq_len| {
        BATCHES
            .into_iter()
            .flat_map(move |batch| RANKS.into_iter().map(move |rank| Cell { seq_len, batch, rank }))
    })
}

/// One host's part of a grid: every `count`-th cell, so that each part holds small and large cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl Shard {
    /// Whether the cell with this ordinal (counted from 0) is measured in this part.
    #[must_use]
    pub fn holds(&self, ordinal: usize) -> bool {
        ordinal % self.count == self.index - 1
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

/// Text that names no part of a grid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a shard: expected i/n with 1 <= i <= n, such as 2/4")]
pub struct ParseShardError(pub String);

impl FromStr for Shard {
    type Err = ParseShardError;

    fn from_str(text: &str) -> Result<Shard, ParseShardError> {
        let parsed = text.split_once('/').and_then(|(i, n)| {
            let (index, count) = (i.parse().ok()?, n.parse().ok()?);
            (1..=count).contains(&index).then_some(Shard { index, count })
        });
        parsed.ok_or_else(|| ParseShardError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_grid_is_ordered_and_whole() {
        let cells: Vec<Cell> = grid().collect();
        assert_eq!(cells.len(), 72);
        assert_eq!(cells.iter().collect::<HashSet<_>>().len(), 72);
        assert!(cells.is_sorted());
        assert_eq!(cells[0].to_string(), "seq128/batch1/r0");
        assert_eq!(cells[4], Cell { seq_len: 128, batch: 2, rank: 0 });
        assert_eq!(cells[71], Cell { seq_len: 512, batch: 32, rank: 250 });
        assert_eq!(cells[71].m(), 16384);
    }

    #[test]
    fn shards_part_the_grid() {
        for count in [1, 3, 4, 7, 100] {
            let shards: Vec<Shard> =
                (1..=count).map(|index| format!("{index}/{count}").parse().unwrap()).collect();
            for ordinal in 0..72 {
                let holders = shards.iter().filter(|shard| shard.holds(ordinal)).count();
                assert_eq!(holders, 1, "cell {ordinal} with {count} shards");
            }
        }
        let second: Shard = "2/3".parse().unwrap();
        let held: Vec<usize> = (0..8).filter(|&ordinal| second.holds(ordinal)).collect();
        assert_eq!(held, [1, 4, 7]);
        assert_eq!(second.to_string().parse(), Ok(second));
    }

    #[test]
    fn what_is_no_shard_is_refused() {
        for text in ["", "1", "/", "0/1", "2/1", "1/0", "-1/2", "1/2/3", "a/b", "1.0/2", "1 /2"] {
            let error = text.parse::<Shard>().unwrap_err();
            assert_eq!(error.0, text);
        }
    }
}

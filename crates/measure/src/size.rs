//! How many tokens a call has.

use std::fmt;

use fused_lora_records::Cell;

/// Sequences, and tokens of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Size {
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Sequences.
    pub batch: usize,
}

impl Size {
    /// M: the rows of x.
    pub fn m(&self) -> usize {
        self.batch * self.seq_len
    }

    /// The grid's cell of that size and rank.
    pub fn cell(&self, rank: usize) -> Cell {
        Cell { seq_len: self.seq_len, batch: self.batch, rank }
    }
}

/// `seq128/batch4`
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq{}/batch{}", self.seq_len, self.batch)
    }
}

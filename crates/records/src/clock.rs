//! Which clock a ratio of times was taken with.

use std::fmt;

/// What the ratio to the base was computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Clock {
    /// Wall times of undisturbed rounds.
    Wall,
    /// CPU times, because other processes disturbed most rounds.
    Cpu,
}

/// `wall` or `cpu`, as in the CSV.
impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clock::Wall => "wall",
            Clock::Cpu => "cpu",
        })
    }
}

use std::fmt;

use clap::ValueEnum;
use fused_lora::plan::cost::Seconds;

/// A set of the cost model's constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// What data sheets and published kernels allow at best
    Optimistic,
    /// What is likely under load, with the kernels as they are
    #[default]
    Pessimistic,
}

impl Set {
    /// Both, as tables show them.
    pub const ALL: [Set; 2] = [Set::Optimistic, Set::Pessimistic];

    /// The seconds by this set.
    #[must_use]
    pub fn of(self, seconds: Seconds) -> f64 {
        match self {
            Set::Optimistic => seconds.optimistic,
            Set::Pessimistic => seconds.pessimistic,
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Set::Optimistic => "optimistic",
            Set::Pessimistic => "pessimistic",
        })
    }
}

//! What a cell of the figure can show.

use clap::ValueEnum;
use fused_lora_records::Record;

/// A number of a record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Metric {
    /// 100·(t/t(base) − 1), in percent.
    #[default]
    Slowdown,
    /// The time of a forward pass.
    Time,
    /// Useful operations in a second.
    Gflops,
    /// The slow-down less the floor: what the adapter costs beyond its arithmetic, in points.
    OverFloor,
}

impl Metric {
    /// The name by which it is chosen.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }

    /// A record's number, where it has one.
    #[must_use]
    pub fn of(self, record: &Record) -> Option<f64> {
        match self {
            Metric::Slowdown => record.slowdown_pct,
            Metric::Time => Some(record.time_ns),
            Metric::Gflops => record.gflops,
            Metric::OverFloor => Some(record.slowdown_pct? - record.floor_pct?),
        }
    }
}

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
    /// The time of a forward pass over the least that the machine could need for it, which is the record's
    /// `limit_ns`.
    OverLimit,
}

impl Metric {
    /// The name by which it is chosen.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().expect("none is skipped").get_name().to_owned()
    }

    /// Whether it is a method's cost over the base, so that the base itself has no number.
    #[must_use]
    pub fn is_over_base(self) -> bool {
        matches!(self, Metric::Slowdown | Metric::OverFloor)
    }

    /// A record's number, where it has one.
    #[must_use]
    pub fn of(self, record: &Record) -> Option<f64> {
        match self {
            Metric::Slowdown => record.slowdown_pct,
            Metric::Time => Some(record.time_ns),
            Metric::Gflops => record.gflops,
            Metric::OverFloor => Some(record.slowdown_pct? - record.floor_pct?),
            Metric::OverLimit => Some(record.time_ns / record.limit_ns?),
        }
    }

    /// The 95 % interval of that number, where it has one.
    #[must_use]
    pub fn interval(self, record: &Record) -> Option<(f64, f64)> {
        let slowdowns = record.slowdown_lo_pct.zip(record.slowdown_hi_pct);
        let times = record.time_lo_ns.zip(record.time_hi_ns);
        match self {
            Metric::Slowdown => slowdowns,
            Metric::OverFloor => {
                let floor = record.floor_pct?;
                slowdowns.map(|(lo, hi)| (lo - floor, hi - floor))
            }
            Metric::Time => times,
            Metric::OverLimit => {
                let limit = record.limit_ns?;
                times.map(|(lo, hi)| (lo / limit, hi / limit))
            }
            Metric::Gflops => {
                let operations = record.gflops? * record.time_ns;
                times.map(|(lo, hi)| (operations / hi, operations / lo))
            }
        }
    }
}

//! One measured cell: the columns of the CSV as a typed struct.

use crate::error::BadField;
use crate::field::{Clock, Field};
use crate::grid::Cell;
use crate::timestamp::Timestamp;

/// One list yields the struct, the header, the reader and the writer, so that they cannot drift.
macro_rules! record {
    ($($(#[$doc:meta])* $name:ident: $type:ty,)*) => {
        /// One measured cell. The fields are the columns of the CSV, in its order.
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct Record {
            $($(#[$doc])* pub $name: $type,)*
        }

        /// The header of the CSV.
        pub const COLUMNS: &[&str] = &[$(stringify!($name)),*];

        impl Record {
            /// The fields' texts in the order of [`COLUMNS`].
            pub(crate) fn to_fields(&self) -> Vec<String> {
                vec![$(self.$name.to_text()),*]
            }

            /// `text` yields the text of the column with that name.
            pub(crate) fn from_fields<'a>(
                text: impl Fn(&'static str) -> &'a str,
            ) -> Result<Record, BadField> {
                Ok(Record {
                    $($name: {
                        let column = stringify!($name);
                        let value = text(column);
                        <$type>::from_text(value)
                            .map_err(|reason| BadField { column, value: value.to_owned(), reason })?
                    },)*
                })
            }
        }
    };
}

record! {
    /// Names the measurement that this belongs to; a resumed measurement goes on under the same name.
    run: String,
    /// Name of the [`Workload`](crate::Workload).
    workload: String,
    /// What computed it: `cpu`, later `cuda`, or a peer's.
    backend: String,
    /// Name of the processor or GPU.
    device: String,
    /// Threads on a CPU.
    threads: Option<usize>,
    /// SIMD level on a CPU; may be empty.
    simd: String,
    /// Version of the GPU's driver, or of the library that is measured; may be empty.
    driver: String,
    /// Clock during the measurement, where it could be read.
    clock_mhz: Option<f64>,
    /// State of the caches before a call: `cold` or `warm-w`.
    cache: String,
    /// Element type of x, W and y: `f16`, `bf16` or `f32`.
    dtype: String,
    /// The strategy (`base`, `unfused`, `fused`), what is done to a transformer's layer (`none`, `adapter-h`,
    /// `adapter-l`, `lora-unfused`, `lora-fused`; `-qv` behind LoRA's where it is on q and v alone), or a
    /// peer's name.
    method: String,
    /// K, the input width; joined by `+` where a workload has several projections.
    d_in: String,
    /// N, the output width; joined by `+` like `d_in`.
    d_out: String,
    /// Tokens per sequence.
    seq_len: usize,
    /// Sequences per batch.
    batch: usize,
    /// Rank of the adapter. The base (of a layer, `none`) is recorded at 0.
    rank: usize,
    /// How many adapters the rows of the batch use, at least 1. The base, which uses none, is recorded at 1.
    adapters: usize,
    /// Median time of one forward pass, in nanoseconds.
    time_ns: f64,
    /// Lower end of the 95 % interval of `time_ns`. Of fewer than 6 rounds there is none.
    time_lo_ns: Option<f64>,
    /// Upper end of the 95 % interval of `time_ns`.
    time_hi_ns: Option<f64>,
    /// 100·(t/t(base) − 1) as the median over rounds; the base itself has none. Of a transformer's layer, the
    /// base is `none`.
    slowdown_pct: Option<f64>,
    /// Lower end of the 95 % interval of `slowdown_pct`. Of fewer than 6 rounds there is none.
    slowdown_lo_pct: Option<f64>,
    /// Upper end of the 95 % interval of `slowdown_pct`.
    slowdown_hi_pct: Option<f64>,
    /// Slow-down that the adapter's arithmetic alone costs.
    floor_pct: Option<f64>,
    /// The same with the rank rounded up to the hardware's granules.
    floor_pad_pct: Option<f64>,
    /// Time in nanoseconds that the machine cannot beat: the larger of the bytes of all operands over the
    /// memory's bandwidth and the operations over the peak, both measured in the same rounds.
    limit_ns: Option<f64>,
    /// Useful operations per nanosecond: those of base, shrink and expand; of a transformer's layer, those of
    /// its products, its adapters and its attention.
    gflops: Option<f64>,
    /// Rounds that the medians are taken over.
    samples: usize,
    /// Rounds that other processes disturbed, and that were thrown away and run again.
    repeated: usize,
    /// The clock of the times in `slowdown_pct`.
    ratio_by: Clock,
    /// The commit that was measured, or `unknown`.
    commit: String,
    /// Whether the work tree differed from that commit.
    dirty: bool,
    /// When the cell was finished.
    measured_at: Timestamp,
}

impl Record {
    /// The point of the grid that this measures.
    #[must_use]
    pub fn cell(&self) -> Cell {
        Cell { seq_len: self.seq_len, batch: self.batch, rank: self.rank }
    }

    /// The rules beyond a column's type. The writer checks them too, so that what it writes can be read.
    pub(crate) fn check(&self) -> Result<(), BadField> {
        let fields = self.to_fields();
        let text = |column| fields[position(column)].as_str();
        let rule = |holds: bool, column: &'static str, reason: &str| {
            let bad = || BadField { column, value: text(column).to_owned(), reason: reason.to_owned() };
            if holds { Ok(()) } else { Err(bad()) }
        };
        for column in ["run", "workload", "backend", "device", "cache", "dtype", "method", "commit"] {
            rule(!text(column).is_empty(), column, "is empty")?;
        }
        // A record is one line of the file: that is what makes a torn line recognisable.
        for column in COLUMNS {
            rule(!text(column).contains(['\n', '\r']), column, "holds a line break")?;
        }
        let (d_in, d_out) = (count_widths(&self.d_in), count_widths(&self.d_out));
        rule(d_in.is_some(), "d_in", "not a width, or several joined by '+'")?;
        rule(d_out.is_some(), "d_out", "not a width, or several joined by '+'")?;
        rule(d_in == d_out, "d_out", "has not as many widths as d_in")?;
        for column in ["seq_len", "batch", "adapters"] {
            rule(text(column) != "0", column, "must be at least 1")?;
        }
        for column in NUMBERS {
            rule(!["NaN", "inf", "-inf"].contains(&text(column)), column, "not a finite number")?;
        }
        rule(self.time_ns > 0.0, "time_ns", "must be above 0")?;
        rule(self.limit_ns.is_none_or(|limit| limit > 0.0), "limit_ns", "must be above 0")?;
        rule(ordered(self.time_lo_ns, self.time_hi_ns), "time_hi_ns", "is below time_lo_ns")?;
        let is_ordered = ordered(self.slowdown_lo_pct, self.slowdown_hi_pct);
        rule(is_ordered, "slowdown_hi_pct", "is below slowdown_lo_pct")
    }
}

/// The columns of type f64.
const NUMBERS: [&str; 11] = [
    "clock_mhz",
    "time_ns",
    "time_lo_ns",
    "time_hi_ns",
    "slowdown_pct",
    "slowdown_lo_pct",
    "slowdown_hi_pct",
    "floor_pct",
    "floor_pad_pct",
    "limit_ns",
    "gflops",
];

/// Where a column stands among [`COLUMNS`].
pub(crate) fn position(name: &str) -> usize {
    COLUMNS.iter().position(|column| *column == name).expect("a column's name")
}

/// How many widths a `d_in` or `d_out` holds; none if one of them is no width.
fn count_widths(text: &str) -> Option<usize> {
    let widths = text.split('+').map(|width| usize::from_text(width).ok().filter(|&width| width > 0));
    widths.collect::<Option<Vec<usize>>>().map(|widths| widths.len())
}

fn ordered(lo: Option<f64>, hi: Option<f64>) -> bool {
    lo.zip(hi).is_none_or(|(lo, hi)| lo <= hi)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_the_documented_ones() {
        let documented = "run,workload,backend,device,threads,simd,driver,clock_mhz,cache,dtype,method,\
            d_in,d_out,\
            seq_len,batch,rank,adapters,time_ns,time_lo_ns,time_hi_ns,slowdown_pct,slowdown_lo_pct,\
            slowdown_hi_pct,floor_pct,floor_pad_pct,limit_ns,gflops,samples,repeated,ratio_by,\
            commit,dirty,measured_at";
        assert_eq!(COLUMNS.join(","), documented);
    }

    #[test]
    fn widths_are_positive_and_joined_by_plus() {
        assert_eq!(count_widths("1024"), Some(1));
        assert_eq!(count_widths("1024+1024+4096"), Some(3));
        for text in ["", "0", "1024+", "+1024", "1024++1", "1024 + 1", "-3", "1e3"] {
            assert_eq!(count_widths(text), None, "'{text}'");
        }
    }
}

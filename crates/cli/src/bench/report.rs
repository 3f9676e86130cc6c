//! What was measured, for the table, the CSV and the picture: a line for each shape, and one for all modules.

use fused_lora::Strategy;
use fused_lora_heatmap::{Bar, BarGroup, BarPanel};
use fused_lora_measure::{outcome::Outcome, samples::Measured, stats::Median};
use fused_lora_records::Clock;
use serde::Serialize;

use super::shape::{Shape, Sharers, tokens};
use crate::columns::columns;

/// One shape, or all of an adapter's modules, at a number of tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) tokens: usize,
    /// None for the sum over all modules.
    pub(super) shape: Option<Shape>,
    pub(super) modules: Sharers,
    /// By strategy, in the order of [`Strategy::ALL`].
    pub(super) times: [Timed; 3],
    /// In percent of the base: the adapter's arithmetic, and with its rank rounded up.
    pub(super) floors: [f64; 2],
}

/// What the calls of a strategy say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Timed {
    /// In nanoseconds.
    pub(super) time: Median,
    /// In percent of the base; None for the base.
    pub(super) slowdown: Option<Median>,
    /// The nanoseconds that the machine cannot beat.
    pub(super) limit: Option<f64>,
    pub(super) samples: usize,
    pub(super) repeated: usize,
    pub(super) clock: Clock,
}

impl Line {
    /// None if a strategy was never called.
    pub(super) fn of(outcome: &Outcome, shape: Shape, modules: &Sharers) -> Option<Line> {
        let timed = |place: usize| {
            let Measured { time, ratio, clock, samples, repeated, .. } = outcome.samples.measured(place)?;
            let slowdown = ratio.map(|ratio| ratio.map(|ratio| 100.0 * (ratio - 1.0)));
            let limit = outcome.limit_ns(outcome.methods[place].work);
            Some(Timed { time, slowdown, limit, samples, repeated, clock })
        };
        let floor = outcome.methods[2].floor?;
        Some(Line {
            tokens: outcome.size.m(),
            shape: Some(shape),
            modules: modules.clone(),
            times: [timed(0)?, timed(1)?, timed(2)?],
            floors: [floor.pct, floor.pad_pct?],
        })
    }

    /// All modules of these shapes, which were measured at the same number of tokens: the sum of their times.
    /// The ends of its intervals are the sums of theirs: it holds the truth more often than each of them.
    /// None of no shapes.
    pub(super) fn total(lines: &[Line]) -> Option<Line> {
        let sum = |of: &dyn Fn(&Line) -> Option<f64>| -> Option<f64> {
            lines.iter().map(|line| Some(line.modules.count as f64 * of(line)?)).sum()
        };
        let base = |line: &Line| line.times[0].time.median;
        let all = |of: &dyn Fn(&Line) -> Option<Median>| -> Option<Median> {
            let end = |of_interval: fn((f64, f64)) -> f64| sum(&|line| of(line)?.interval.map(of_interval));
            let interval = end(|(lo, _)| lo).zip(end(|(_, hi)| hi));
            Some(Median { median: sum(&|line| Some(of(line)?.median))?, interval })
        };
        let whole = sum(&|line| Some(base(line)))?;
        let timed = |place: usize| -> Option<Timed> {
            let every = || lines.iter().map(|line| &line.times[place]);
            // Of a line, the nanoseconds over its base; of all, in percent of all bases.
            let over = all(&|line| Some(line.times[place].slowdown?.map(|pct| pct * base(line))));
            Some(Timed {
                time: all(&|line| Some(line.times[place].time))?,
                slowdown: over.map(|over| over.map(|over| over / whole)),
                limit: sum(&|line| line.times[place].limit),
                samples: every().map(|timed| timed.samples).min()?,
                repeated: every().map(|timed| timed.repeated).sum(),
                clock: every()
                    .map(|timed| timed.clock)
                    .find(|clock| *clock == Clock::Cpu)
                    .unwrap_or(Clock::Wall),
            })
        };
        let area = |line: &Line| line.shape.map(|shape| shape.multiply_adds()[0]);
        let floor = |place: usize| Some(sum(&|line| Some(line.floors[place] * area(line)?))? / sum(&area)?);
        let count = lines.iter().map(|line| line.modules.count).sum();
        Some(Line {
            tokens: lines.first()?.tokens,
            shape: None,
            modules: Sharers { count, names: Default::default() },
            times: [timed(0)?, timed(1)?, timed(2)?],
            floors: [floor(0)?, floor(1)?],
        })
    }

    /// `N 4096, K 1024, rank 16`, or `all modules`.
    fn label(&self) -> String {
        let Some(Shape { n, k, rank, .. }) = self.shape else { return "all modules".to_owned() };
        format!("N {n}, K {k}, rank {rank}")
    }
}

/// The table, with a part for each number of tokens.
pub(super) fn table(lines: &[Line]) -> String {
    let mut text = String::new();
    for part in lines.chunk_by(|a, b| a.tokens == b.tokens) {
        let head = [
            "N",
            "K",
            "rank",
            "W",
            "A, B",
            "bias",
            "base, µs",
            "limit, µs",
            "unfused, %",
            "fused, %",
            "floor, %",
            "modules",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(part.iter().map(row));
        text += &format!("\n{}\n{}", tokens(part[0].tokens), columns(&rows, 6));
    }
    text
}

/// Behind a ratio of CPU times.
fn mark(timed: &Timed) -> &'static str {
    if timed.clock == Clock::Cpu { " *" } else { "" }
}

fn row(line: &Line) -> Vec<String> {
    let of_shape = match line.shape {
        Some(shape) => {
            let Shape { n, k, rank, bias, dtype, .. } = shape;
            let bias = if bias { "yes" } else { "no" };
            [
                n.to_string(),
                k.to_string(),
                rank.to_string(),
                dtype.to_string(),
                shape.adapter_dtype().to_string(),
                bias.to_owned(),
            ]
        }
        None => ["all", "", "", "", "", ""].map(str::to_owned),
    };
    let micros = |nanos: f64| format!("{:.1}", nanos * 1e-3);
    let percent = |timed: &Timed| {
        let Some(Median { median, interval }) = timed.slowdown else { return String::new() };
        let interval = interval.map_or_else(String::new, |(lo, hi)| format!(" ({lo:.1} to {hi:.1})"));
        format!("{median:.1}{interval}{}", mark(timed))
    };
    let [base, unfused, fused] = &line.times;
    let names =
        if line.modules.names.is_empty() { String::new() } else { format!(": {}", line.modules.names()) };
    let measured = [
        micros(base.time.median),
        base.limit.map_or_else(String::new, micros),
        percent(unfused),
        percent(fused),
        format!("{:.1}", line.floors[0]),
        format!("{}{names}", line.modules.count),
    ];
    of_shape.into_iter().chain(measured).collect()
}

/// A line of the CSV: a strategy. Of the sum over all modules, the columns of the shape are empty.
#[derive(Serialize)]
struct Record<'a> {
    tokens: usize,
    modules: usize,
    names: String,
    n: Option<usize>,
    k: Option<usize>,
    rank: Option<usize>,
    bias: Option<bool>,
    dtype: Option<&'a str>,
    adapter_dtype: Option<&'a str>,
    method: &'a str,
    time_ns: f64,
    time_lo_ns: Option<f64>,
    time_hi_ns: Option<f64>,
    slowdown_pct: Option<f64>,
    slowdown_lo_pct: Option<f64>,
    slowdown_hi_pct: Option<f64>,
    floor_pct: Option<f64>,
    floor_pad_pct: Option<f64>,
    limit_ns: Option<f64>,
    samples: usize,
    repeated: usize,
    ratio_by: Clock,
}

/// The lines as CSV.
pub(super) fn csv(lines: &[Line]) -> anyhow::Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for line in lines {
        for (strategy, timed) in Strategy::ALL.into_iter().zip(line.times) {
            let Timed { time, slowdown, limit, samples, repeated, clock } = timed;
            let rounded = |value: f64, scale: f64| (value * scale).round() / scale;
            let [nanos, percent] = [1.0, 1e3].map(|scale| move |value: f64| rounded(value, scale));
            let ends = |median: Median| median.interval.unzip();
            let ((lo, hi), slower) = (ends(time), slowdown.map(ends).unwrap_or_default());
            let floor = |place: usize| (strategy != Strategy::Base).then(|| percent(line.floors[place]));
            writer.serialize(Record {
                tokens: line.tokens,
                modules: line.modules.count,
                names: line.modules.names(),
                n: line.shape.map(|shape| shape.n),
                k: line.shape.map(|shape| shape.k),
                rank: line.shape.map(|shape| shape.rank),
                bias: line.shape.map(|shape| shape.bias),
                dtype: line.shape.map(|shape| shape.dtype.name()),
                adapter_dtype: line.shape.map(|shape| shape.adapter_dtype().name()),
                method: strategy.name(),
                time_ns: nanos(time.median),
                time_lo_ns: lo.map(nanos),
                time_hi_ns: hi.map(nanos),
                slowdown_pct: slowdown.map(|slowdown| percent(slowdown.median)),
                slowdown_lo_pct: slower.0.map(percent),
                slowdown_hi_pct: slower.1.map(percent),
                floor_pct: floor(0),
                floor_pad_pct: floor(1),
                limit_ns: limit.map(nanos),
                samples,
                repeated,
                ratio_by: clock,
            })?;
        }
    }
    Ok(writer.into_inner()?)
}

/// The picture: a panel for each number of tokens, a group for each shape, a bar for each strategy.
pub(super) fn panels(lines: &[Line]) -> Vec<BarPanel> {
    let of_line = |line: &Line| {
        let bar = |timed: &Timed| {
            let slowdown = timed.slowdown?;
            Some(Bar { value: slowdown.median, interval: slowdown.interval, mark: mark(timed) })
        };
        let detail = match line.shape {
            Some(_) => format!("{}: {}", line.modules.count, line.modules.names()),
            None => line.modules.count.to_string(),
        };
        BarGroup {
            label: line.label(),
            detail,
            bars: [bar(&line.times[1]), bar(&line.times[2])],
            floor: line.floors[0],
        }
    };
    let panel = |part: &[Line]| BarPanel {
        title: tokens(part[0].tokens),
        groups: part.iter().map(of_line).collect(),
    };
    lines.chunk_by(|a, b| a.tokens == b.tokens).map(panel).collect()
}

#[cfg(test)]
mod tests {
    use fused_lora::DType;

    use super::*;

    /// A shape with so many modules whose base takes `base` nanoseconds; fused takes 10 % more, 9 to 12.
    fn line(n: usize, count: usize, base: f64) -> Line {
        let shape = Shape { n, k: 100, rank: 2, bias: false, dtype: DType::Bf16, wide: true };
        let timed = |pct: Option<[f64; 3]>| {
            let time = pct.map_or(base, |[median, ..]| base * (1.0 + median / 100.0));
            let slowdown = pct.map(|[median, lo, hi]| Median { median, interval: Some((lo, hi)) });
            let time = Median { median: time, interval: Some((0.9 * time, 1.1 * time)) };
            Timed { time, slowdown, limit: Some(base / 2.0), samples: 10, repeated: 1, clock: Clock::Wall }
        };
        let times = [timed(None), timed(Some([40.0, 38.0, 41.0])), timed(Some([10.0, 9.0, 12.0]))];
        let names = ["q".to_owned(), "v".to_owned()].into();
        let floors = [100.0 * (2.0 / n as f64 + 0.02), 50.0];
        Line { tokens: 8, shape: Some(shape), modules: Sharers { count, names }, times, floors }
    }

    /// Three modules of 1000 ns and one of 5000: by hand.
    #[test]
    fn the_total_is_the_sum_over_modules() {
        let mut lines = [line(50, 3, 1000.0), line(200, 1, 5000.0)];
        lines[1].times[2].slowdown = Some(Median { median: 2.0, interval: Some((1.0, 4.0)) });
        lines[1].times[2].clock = Clock::Cpu;
        (lines[1].times[0].samples, lines[1].times[0].limit) = (7, None);
        let total = Line::total(&lines).unwrap();
        assert_eq!((total.tokens, total.shape, total.modules.count), (8, None, 4));
        let [base, unfused, fused] = total.times;
        assert_eq!((base.time.median, base.slowdown, base.samples, base.limit), (8000.0, None, 7, None));
        assert_eq!((unfused.limit, unfused.repeated, unfused.clock), (Some(4000.0), 2, Clock::Wall));
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        // (3000 · 10 + 5000 · 2) / 8000 and so on.
        let Median { median, interval } = fused.slowdown.unwrap();
        close(median, 5.0);
        close(interval.unwrap().0, (3000.0 * 9.0 + 5000.0) / 8000.0);
        close(interval.unwrap().1, (3000.0 * 12.0 + 5000.0 * 4.0) / 8000.0);
        close(unfused.slowdown.unwrap().median, 40.0);
        assert_eq!(fused.clock, Clock::Cpu, "one of them is of CPU times");
        // 2 · 150 · 3 + 2 · 300 multiply-adds to 3 · 5000 + 20000.
        close(total.floors[0], 100.0 * 1500.0 / 35000.0);

        lines[0].times[1].slowdown = Some(Median { median: 40.0, interval: None });
        let slowdown = Line::total(&lines).unwrap().times[1].slowdown.unwrap();
        assert_eq!((slowdown.median.round(), slowdown.interval), (40.0, None), "one interval is not known");
        assert_eq!(Line::total(&[]), None);
    }

    #[test]
    fn the_table_says_all_of_a_line() {
        let lines = [line(50, 3, 1000.0), Line { tokens: 1, ..line(200, 1, 5000.0) }];
        let mut lines = [lines[0].clone(), Line::total(&lines[..1]).unwrap(), lines[1].clone()];
        lines[2].times[1].clock = Clock::Cpu;
        lines[2].times[2].slowdown = Some(Median { median: 7.0, interval: None });
        let expected = "
8 tokens
  N    K  rank     W  A, B  bias  base, µs  limit, µs  unfused, %           fused, %            floor, %  modules
 50  100     2  bf16   f32    no  1.0       0.5        40.0 (38.0 to 41.0)  10.0 (9.0 to 12.0)  6.0       3: q, v
all                               3.0       1.5        40.0 (38.0 to 41.0)  10.0 (9.0 to 12.0)  6.0       3

1 token
  N    K  rank     W  A, B  bias  base, µs  limit, µs  unfused, %             fused, %  floor, %  modules
200  100     2  bf16   f32    no  5.0       2.5        40.0 (38.0 to 41.0) *  7.0       3.0       1: q, v
";
        assert_eq!(table(&lines), expected);
    }
}

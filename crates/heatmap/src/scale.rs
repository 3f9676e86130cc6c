//! The scale that a figure's numbers are coloured by and written in.

use crate::metric::Metric;

/// The number that the lightest colour stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Vmax {
    /// The largest number drawn.
    Auto,
    /// This number, in the unit of the colour bar.
    Fixed(f64),
}

impl Vmax {
    /// What the figure of a metric uses unless told otherwise: 35 for percentages, so that figures of
    /// different devices can be compared.
    #[must_use]
    pub fn default_of(metric: Metric) -> Vmax {
        if metric.is_over_base() { Vmax::Fixed(35.0) } else { Vmax::Auto }
    }
}

/// A unit, and the range from 0 to `vmax` that the colour bar spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// What the colour bar says.
    pub label: String,
    /// The lightest colour's number, in the bar's unit.
    pub vmax: f64,
    unit: f64,
    style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Style {
    OneDecimal,
    TwoDecimals,
    ThreeDigits,
}

impl Scale {
    /// The scale for these numbers of a metric. The unit of a time or a rate is chosen so that the largest
    /// has two digits or more before the point.
    #[must_use]
    pub fn new(metric: Metric, numbers: &[f64], vmax: Vmax) -> Scale {
        let largest = numbers.iter().copied().fold(0.0, f64::max);
        let choose = |units: &[(f64, &'static str)]| {
            *units.iter().rfind(|(unit, _)| largest >= 10.0 * unit).unwrap_or(&units[0])
        };
        let (unit, label, style) = match metric {
            Metric::Slowdown => (1.0, "slow-down vs r = 0 (%)".to_owned(), Style::OneDecimal),
            Metric::OverFloor => (1.0, "slow-down over the floor (points)".to_owned(), Style::OneDecimal),
            Metric::Time => {
                let (unit, name) = choose(&[(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")]);
                (unit, format!("time of a forward pass ({name})"), Style::ThreeDigits)
            }
            Metric::Gflops => {
                let (unit, name) = choose(&[(1.0, "GFLOP/s"), (1e3, "TFLOP/s")]);
                (unit, format!("useful {name}"), Style::ThreeDigits)
            }
            Metric::OverLimit => (1.0, "time / limit".to_owned(), Style::TwoDecimals),
        };
        let vmax = match vmax {
            Vmax::Fixed(vmax) => vmax,
            Vmax::Auto if largest > 0.0 => largest / unit,
            // Nothing above 0: any positive end gives every cell the darkest colour.
            Vmax::Auto => 1.0,
        };
        Scale { label, unit, vmax, style }
    }

    /// A record's number in the bar's unit.
    #[must_use]
    pub fn in_unit(&self, number: f64) -> f64 {
        number / self.unit
    }

    /// Where a number in the bar's unit lies between the darkest (0) and the lightest (1) colour; outside of
    /// that if it is negative or above `vmax`.
    #[must_use]
    pub fn position(&self, value: f64) -> f64 {
        value / self.vmax
    }

    /// A number in the bar's unit as it is written into its cell.
    #[must_use]
    pub fn format(&self, value: f64) -> String {
        let decimals = match self.style {
            Style::OneDecimal => 1,
            Style::TwoDecimals => 2,
            Style::ThreeDigits if value.abs() >= 99.95 => 0,
            Style::ThreeDigits if value.abs() >= 9.995 => 1,
            Style::ThreeDigits => 2,
        };
        let text = format!("{value:.decimals$}");
        // A slow-down of −0.04 is none.
        let is_zero = !text.contains(|c: char| ('1'..='9').contains(&c));
        if is_zero { text.trim_start_matches('-').to_owned() } else { text }
    }

    /// The marks of the colour bar: round numbers from 0 to `vmax`, with their text.
    #[must_use]
    pub fn ticks(&self) -> Vec<(f64, String)> {
        ticks(0.0, self.vmax)
    }
}

/// The round numbers from `lo` to `hi`, which is above it, with their text: about eight.
pub(crate) fn ticks(lo: f64, hi: f64) -> Vec<(f64, String)> {
    let rough = (hi - lo) / 8.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power);
    let step = step.into_iter().find(|step| *step >= rough * (1.0 - 1e-9)).unwrap_or(10.0 * power);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let first = (lo / step - 1e-9 * (lo / step).abs()).ceil() as i64;
    let last = (hi / step + 1e-9 * (hi / step).abs()).floor() as i64;
    (first..=last).map(|i| (i as f64 * step, format!("{:.decimals$}", i as f64 * step))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slowdown(vmax: f64) -> Scale {
        Scale::new(Metric::Slowdown, &[1.0], Vmax::Fixed(vmax))
    }

    fn tick_texts(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn ticks_are_round_and_within_the_bar() {
        assert_eq!(tick_texts(&slowdown(35.0)), ["0", "5", "10", "15", "20", "25", "30", "35"]);
        assert_eq!(tick_texts(&slowdown(1.0)), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(tick_texts(&slowdown(0.8)).len(), 9);
        for vmax in [1e-6, 0.37, 3.0, 8.0, 9.99, 47.3, 99.0, 123_456.0] {
            let ticks = slowdown(vmax).ticks();
            assert!((4..=10).contains(&ticks.len()), "{vmax}: {ticks:?}");
            for (value, text) in ticks {
                assert!(value <= vmax * (1.0 + 1e-6));
                assert!((text.parse::<f64>().unwrap() - value).abs() <= 1e-9 * vmax, "{vmax}: {text}");
            }
        }
    }

    #[test]
    fn ticks_may_begin_anywhere() {
        let texts = |lo, hi| ticks(lo, hi).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(0.93, 1.62), ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5", "1.6"]);
        assert_eq!(texts(-3.1, 8.0), ["-2", "0", "2", "4", "6", "8"]);
        assert_eq!(texts(-0.2, 0.1), ["-0.20", "-0.15", "-0.10", "-0.05", "0.00", "0.05", "0.10"]);
    }

    #[test]
    fn numbers_have_one_decimal_and_keep_their_sign() {
        let scale = slowdown(35.0);
        let texts = [-0.44, -0.04, 0.0, 0.04, 2.25, 48.83, 123.4].map(|value| scale.format(value));
        assert_eq!(texts, ["-0.4", "0.0", "0.0", "0.0", "2.2", "48.8", "123.4"]);
    }

    #[test]
    fn units_follow_the_largest_number() {
        let time = Scale::new(Metric::Time, &[52_000.0, 30_123_000.0], Vmax::Auto);
        assert_eq!(time.label, "time of a forward pass (ms)");
        assert_eq!(time.vmax, 30.123);
        let texts = [52_000.0, 1_234_000.0, 30_123_000.0].map(|ns| time.format(time.in_unit(ns)));
        assert_eq!(texts, ["0.05", "1.23", "30.1"]);
        assert!(Scale::new(Metric::Time, &[5_000.0], Vmax::Auto).label.ends_with("(ns)"));
        assert!(Scale::new(Metric::Time, &[900_000.0], Vmax::Auto).label.ends_with("(µs)"));
        assert!(Scale::new(Metric::Gflops, &[187.0], Vmax::Auto).label.contains("GFLOP/s"));
        let gpu = Scale::new(Metric::Gflops, &[612_345.0], Vmax::Auto);
        assert_eq!(
            (gpu.label.as_str(), gpu.format(gpu.in_unit(612_345.0)).as_str()),
            ("useful TFLOP/s", "612")
        );
    }

    #[test]
    fn ratios_have_two_decimals() {
        let scale = Scale::new(Metric::OverLimit, &[1.234], Vmax::Auto);
        assert_eq!((scale.vmax, scale.format(1.234).as_str()), (1.234, "1.23"));
        assert_eq!(Vmax::default_of(Metric::OverLimit), Vmax::Auto);
    }

    #[test]
    fn vmax_auto_is_the_largest_number() {
        let of = |numbers: &[f64]| Scale::new(Metric::Slowdown, numbers, Vmax::Auto).vmax;
        assert_eq!(of(&[3.0, 48.8, -1.0]), 48.8);
        assert_eq!(of(&[-1.0, -2.0]), 1.0);
        assert_eq!(of(&[]), 1.0);
        assert_eq!(slowdown(35.0).position(17.5), 0.5);
    }
}

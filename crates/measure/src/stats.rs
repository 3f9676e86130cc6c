//! Medians, and the intervals that they are known to.
//!
//! Times on a shared machine have long tails to one side: the median is what a reader expects to see again,
//! and its interval comes from resampling the rounds, not from a normal distribution they do not have.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

/// Resamples of a bootstrap: the 2.5 % and 97.5 % quantiles then rest on 50 resamples each.
const RESAMPLES: usize = 2000;
/// Fixed, so that the same rounds always give the same interval.
const SEED: u64 = 0x6c6f_7261;

/// With fewer values a median has no 95 % interval: the smallest and the largest of six hold it with 96.9 %,
/// of five with 93.8 %.
pub const FEWEST: usize = 6;

/// A median, with its 95 % interval where there are enough values for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The median.
    pub median: f64,
    /// Lower and upper end of the interval, a percentile bootstrap's; None for fewer than [`FEWEST`] values.
    pub interval: Option<(f64, f64)>,
}

impl Median {
    /// Of those values; None where there are none.
    pub fn of(values: &[f64]) -> Option<Median> {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
        let median = median(&mut values.to_vec())?;
        let mut resample = vec![0.0; values.len()];
        let mut again = || {
            resample.fill_with(|| values[rng.random_range(0..values.len())]);
            self::median(&mut resample)
        };
        let interval = (values.len() >= FEWEST).then(|| {
            let medians: Vec<f64> = (0..RESAMPLES).filter_map(|_| again()).collect();
            quantile(&medians, 0.025).zip(quantile(&medians, 0.975))
        });
        Some(Median { median, interval: interval.flatten() })
    }

    /// That of `f(x)` where `f` rises.
    pub fn map(self, f: impl Fn(f64) -> f64) -> Median {
        Median { median: f(self.median), interval: self.interval.map(|(lo, hi)| (f(lo), f(hi))) }
    }

    /// Half the interval's width.
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(|(lo, hi)| (hi - lo) / 2.0)
    }
}

/// The mean of the middle two where their number is even. Reorders the values, but, unlike [`quantile`], does
/// not sort them.
fn median(values: &mut [f64]) -> Option<f64> {
    let (middle, odd) = (values.len() / 2, values.len() % 2 == 1);
    if values.is_empty() {
        return None;
    }
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let lower = below.iter().copied().max_by(f64::total_cmp).filter(|_| !odd);
    Some(f64::midpoint(lower.unwrap_or(upper), upper))
}

/// The value below which that share of the values lies, with linear interpolation between neighbours; None
/// where there are no values.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let position = q * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    Some(below + (above - below) * position.fract())
}

/// The geometric mean, the one mean of ratios that does not depend on which way round they are taken.
/// None where there are no values.
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Exp};

    use super::*;

    #[test]
    fn medians_and_quantiles_by_hand() {
        for (values, median) in [
            (&[3.0][..], 3.0),
            (&[3.0, 1.0], 2.0),
            (&[9.0, 1.0, 5.0], 5.0),
            (&[4.0, 100.0, 1.0, 2.0], 3.0),
            (&[3.0, 1.0, 2.0, 4.0, 5.0], 3.0),
        ] {
            assert_eq!(Median::of(values), Some(Median { median, interval: None }), "{values:?}");
            assert_eq!(quantile(values, 0.5), Some(median), "{values:?}");
        }
        for (q, value) in [(0.0, 0.0), (0.5, 20.0), (0.125, 5.0), (1.0, 40.0)] {
            assert_eq!(quantile(&[10.0, 0.0, 20.0, 40.0, 30.0], q), Some(value));
        }
        assert_eq!((Median::of(&[]), quantile(&[], 0.5)), (None, None));
    }

    /// The distribution of a resampled median is known: with n odd it is at or below the k-th smallest value
    /// exactly if at least (n + 1)/2 draws are, a binomial tail. For n = 9: P(at most the 2nd) = 0.0287,
    /// P(at most the 1st) = 0.0014, so the 2.5 % quantile is the 2nd smallest, and the 97.5 % the 8th.
    #[test]
    fn the_interval_is_the_binomials() {
        let values: Vec<f64> = (1..=9).map(f64::from).collect();
        assert_eq!(Median::of(&values), Some(Median { median: 5.0, interval: Some((2.0, 8.0)) }));
        let equal = Median { median: 7.0, interval: Some((7.0, 7.0)) };
        assert_eq!(Median::of(&[7.0; FEWEST]), Some(equal), "equal values leave no doubt");
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let times = Exp::new(1.0).expect("a positive rate");
        let truth = std::f64::consts::LN_2;
        let mut holds = || {
            let sample: Vec<f64> = (0..41).map(|_| times.sample(&mut rng)).collect();
            let (lo, hi) = Median::of(&sample).unwrap().interval.unwrap();
            lo <= truth && truth <= hi
        };
        let coverage = (0..300).filter(|_| holds()).count() as f64 / 300.0;
        assert!((0.90..=0.985).contains(&coverage), "a 95 % interval held it in {coverage} of the trials");
    }

    #[test]
    fn an_interval_is_reproducible_and_ordered() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * 7919 % 211)).collect();
        let median = Median::of(&values).unwrap();
        assert_eq!(Median::of(&values), Some(median));
        let (lo, hi) = median.interval.unwrap();
        assert!(lo < median.median && median.median < hi);
        let percent = median.map(|ratio| 100.0 * (ratio - 1.0));
        assert_eq!(percent.median, 100.0 * (median.median - 1.0));
        assert_eq!(percent.half_width().unwrap(), 50.0 * (hi - lo));
    }

    #[test]
    fn the_geometric_mean_of_a_ratio_and_its_inverse_is_one() {
        assert!((geometric_mean(&[4.0, 0.25]).unwrap() - 1.0).abs() < 1e-12);
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}

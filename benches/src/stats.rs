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

/// With fewer values a median has no 95 % interval: the smallest and the largest of six hold it with 96.9 %, of five with 93.8 %.
pub const FEWEST: usize = 6;

/// A median, with its 95 % interval where there are enough values for one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Median {
    /// The median.
    pub median: f64,
    /// Lower and upper end of the interval; None for fewer than [`FEWEST`] values.
    pub interval: Option<(f64, f64)>,
}

impl Median {
    /// Of those values.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    pub fn of(values: &[f64]) -> Median {
        let estimate = bootstrap_median(values);
        let interval = (values.len() >= FEWEST).then_some((estimate.lo, estimate.hi));
        Median { median: estimate.median, interval }
    }

    /// That of `f(x)` where `f` rises.
    #[must_use]
    pub fn map(self, f: impl Fn(f64) -> f64) -> Median {
        Median { median: f(self.median), interval: self.interval.map(|(lo, hi)| (f(lo), f(hi))) }
    }

    /// Half the interval's width.
    #[must_use]
    pub fn half_width(&self) -> Option<f64> {
        self.interval.map(|(lo, hi)| (hi - lo) / 2.0)
    }
}

/// A median with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Estimate {
    lo: f64,
    median: f64,
    hi: f64,
}

/// The median; the mean of the middle two where their number is even.
///
/// # Panics
///
/// If there are no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    median_in_place(&mut values.to_vec())
}

/// The median and its 95 % percentile-bootstrap interval.
///
/// # Panics
///
/// If there are no values.
fn bootstrap_median(values: &[f64]) -> Estimate {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(SEED);
    let mut resample = vec![0.0; values.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            resample.fill_with(|| values[rng.random_range(0..values.len())]);
            median_in_place(&mut resample)
        })
        .collect();
    medians.sort_unstable_by(f64::total_cmp);
    Estimate { lo: quantile(&medians, 0.025), median: median(values), hi: quantile(&medians, 0.975) }
}

/// The geometric mean, the one mean of ratios that does not depend on which way round they are taken.
/// None where there are no values.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().map(|value| value.ln()).sum();
    (!values.is_empty()).then(|| (sum / values.len() as f64).exp())
}

fn median_in_place(values: &mut [f64]) -> f64 {
    let middle = values.len() / 2;
    let odd = values.len() % 2 == 1;
    let (below, &mut upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    if odd {
        return upper;
    }
    let lower =
        below.iter().copied().max_by(f64::total_cmp).expect("an even number of values is at least two");
    f64::midpoint(lower, upper)
}

/// The value below which that share of the values lies; None where there are no values.
#[must_use]
pub fn quantile_of(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    (!sorted.is_empty()).then(|| quantile(&sorted, q))
}

/// Of sorted values, with linear interpolation between neighbours.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    below + (above - below) * position.fract()
}

#[cfg(test)]
mod tests {
    use rand_distr::{Distribution, Exp};

    use super::*;

    #[test]
    fn medians_by_hand() {
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[3.0, 1.0]), 2.0);
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[4.0, 100.0, 1.0, 2.0]), 3.0);
    }

    #[test]
    fn quantiles_by_hand() {
        let sorted = [0.0, 10.0, 20.0, 30.0, 40.0];
        assert_eq!(quantile(&sorted, 0.0), 0.0);
        assert_eq!(quantile(&sorted, 0.5), 20.0);
        assert_eq!(quantile(&sorted, 0.125), 5.0);
        assert_eq!((quantile_of(&[3.0, 1.0, 2.0], 0.5), quantile_of(&[], 0.5)), (Some(2.0), None));
        assert_eq!(quantile(&sorted, 1.0), 40.0);
    }

    #[test]
    fn few_values_have_a_median_and_no_interval() {
        assert_eq!(Median::of(&[3.0, 1.0, 2.0, 4.0, 5.0]), Median { median: 3.0, interval: None });
        assert!(Median::of(&[3.0, 1.0, 2.0, 4.0, 5.0, 6.0]).interval.is_some());
    }

    #[test]
    fn equal_values_leave_no_doubt() {
        assert_eq!(bootstrap_median(&[7.0; 12]), Estimate { lo: 7.0, median: 7.0, hi: 7.0 });
    }

    /// The distribution of a resampled median is known: with n odd it is at or below the k-th smallest value
    /// exactly if at least (n + 1)/2 draws are, a binomial tail. For n = 9: P(at most the 2nd) = 0.0287,
    /// P(at most the 1st) = 0.0014, so the 2.5 % quantile is the 2nd smallest, and the 97.5 % the 8th.
    #[test]
    fn the_interval_is_the_binomials() {
        let values: Vec<f64> = (1..=9).map(f64::from).collect();
        let estimate = bootstrap_median(&values);
        assert_eq!(estimate, Estimate { lo: 2.0, median: 5.0, hi: 8.0 });
    }

    #[test]
    fn the_interval_holds_the_truth_as_often_as_it_says() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let times = Exp::new(1.0).expect("a positive rate");
        let truth = std::f64::consts::LN_2;
        let trials = 300;
        let held = (0..trials)
            .filter(|_| {
                let sample: Vec<f64> = (0..41).map(|_| times.sample(&mut rng)).collect();
                let estimate = bootstrap_median(&sample);
                estimate.lo <= truth && truth <= estimate.hi
            })
            .count();
        let coverage = held as f64 / f64::from(trials);
        assert!(
            (0.90..=0.985).contains(&coverage),
            "a 95 % interval held the truth in {coverage} of the trials"
        );
    }

    #[test]
    fn an_estimate_is_reproducible_and_ordered() {
        let values: Vec<f64> = (0..200).map(|i| f64::from(i * 7919 % 211)).collect();
        let estimate = bootstrap_median(&values);
        assert_eq!(estimate, bootstrap_median(&values));
        assert!(estimate.lo < estimate.median && estimate.median < estimate.hi);
        let median = Median::of(&values);
        assert_eq!((median.median, median.interval), (estimate.median, Some((estimate.lo, estimate.hi))));
        let percent = median.map(|ratio| 100.0 * (ratio - 1.0));
        assert_eq!(percent.median, 100.0 * (estimate.median - 1.0));
        assert_eq!(percent.half_width().unwrap(), 50.0 * (estimate.hi - estimate.lo));
    }

    #[test]
    fn the_geometric_mean_of_a_ratio_and_its_inverse_is_one() {
        assert!((geometric_mean(&[4.0, 0.25]).unwrap() - 1.0).abs() < 1e-12);
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
        assert_eq!(geometric_mean(&[]), None);
    }
}

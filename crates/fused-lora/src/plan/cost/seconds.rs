//! An estimate by both sets of constants.

use std::{iter::Sum, ops::Add};

/// Seconds as the cost model estimates them, by each of its [sets of constants](super::Constants). The truth
/// is expected in between, and nothing has been measured yet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// By what data sheets and published kernels allow at best.
    pub optimistic: f64,
    /// By what is likely under load, with the kernels as they are.
    pub pessimistic: f64,
}

impl Seconds {
    /// Never.
    pub(crate) const INFINITE: Self = Self { optimistic: f64::INFINITY, pessimistic: f64::INFINITY };

    /// The lower of the two in each set.
    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            optimistic: self.optimistic.min(other.optimistic),
            pessimistic: self.pessimistic.min(other.pessimistic),
        }
    }

    /// How many times as long as `best` it takes, by the set that likes it less: 1 where it is the best by
    /// both. 1 beside nothing, which takes no time.
    pub(crate) fn over(self, best: Self) -> f64 {
        let ratio = |this: f64, best: f64| if this > best { this / best } else { 1.0 };
        ratio(self.optimistic, best.optimistic).max(ratio(self.pessimistic, best.pessimistic))
    }
}

impl Add for Seconds {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            optimistic: self.optimistic + other.optimistic,
            pessimistic: self.pessimistic + other.pessimistic,
        }
    }
}

impl Sum for Seconds {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Self::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(optimistic: f64, pessimistic: f64) -> Seconds {
        Seconds { optimistic, pessimistic }
    }

    #[test]
    fn what_is_worse_by_either_set_decides() {
        let best = seconds(1.0, 2.0);
        assert_eq!(seconds(1.5, 2.0).over(best), 1.5);
        assert_eq!(seconds(1.0, 5.0).over(best), 2.5);
        assert_eq!(best.over(best), 1.0);
        assert_eq!(seconds(0.0, 0.0).over(seconds(0.0, 0.0)), 1.0);
        assert_eq!(seconds(3.0, 1.0).min(best), seconds(1.0, 1.0));
        assert_eq!([best, seconds(3.0, 1.0)].into_iter().sum::<Seconds>(), seconds(4.0, 3.0));
    }
}

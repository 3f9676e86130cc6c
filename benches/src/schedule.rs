//! The order of the calls of a round.
//!
//! ```text
//! base  m₅  m₀  base  m₃  m₇  base  m₁  base  …
//! ```
//!
//! A *leg* is a base call, one or two methods, and a base call again, which opens the next leg. A method is compared with the mean of the
//! two base calls of its leg: none is more than two calls away, and a machine that gets slower within a leg slows both sides down. Two
//! calls that are eight places apart scatter 1.7 to 2.4 times as much as neighbours; a base beside each method would take 17 calls where
//! legs of two take 12. The order of the methods is drawn anew in each round, so that none always follows the same other.

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom as _;

/// Methods between two base calls.
const BETWEEN: usize = 2;

/// What is called between two base calls.
pub type Leg = Vec<usize>;

/// The legs of one round of these methods, which have one base.
pub fn legs(methods: &[usize], rng: &mut Xoshiro256PlusPlus) -> Vec<Leg> {
    let mut methods = methods.to_vec();
    methods.shuffle(rng);
    methods.chunks(BETWEEN).map(<[usize]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn each_method_is_in_one_leg_beside_a_base() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        for count in 0..10 {
            let methods: Vec<usize> = (3..3 + count).collect();
            let legs = legs(&methods, &mut rng);
            assert_eq!(legs.len(), count.div_ceil(2));
            assert!(legs.iter().all(|leg| (1..=2).contains(&leg.len())), "{legs:?}");
            let mut called = legs.concat();
            called.sort_unstable();
            assert_eq!(called, methods);
        }
    }

    /// Over many rounds each method stands first and last, and beside each other one.
    #[test]
    fn no_method_always_follows_the_same_other() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut pairs = BTreeSet::new();
        for _ in 0..200 {
            for leg in legs(&[0, 1, 2, 3], &mut rng) {
                pairs.insert((leg[0], leg[1]));
            }
        }
        assert_eq!(pairs.len(), 4 * 3);
    }
}

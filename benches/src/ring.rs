//! Which buffers a call works on: a ring of slots, long enough that none is still in cache when its turn
//! comes again.
//!
//! Several methods are compared round by round. In round t method j works on slot `t + j·h`, where the ring
//! has `methods · h` slots: no two methods share a slot in a round (the weights that the base has read would
//! be warm for the strategy after it), every method visits every slot, and a slot that method j has left is
//! next used by method j − 1, h rounds later. The order of the methods within a round alternates, so that a
//! clock that drifts favours none.

/// A ring of slots shared by several methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    methods: usize,
    /// h: rounds after which the next method comes to a slot.
    lag: usize,
}

impl Ring {
    /// The shortest ring in which at least `distance` bytes of other slots are touched between two uses of
    /// any one: one slot a method where that is 0.
    ///
    /// # Panics
    ///
    /// If there are no methods, or a slot holds nothing.
    #[must_use]
    pub fn cold(methods: usize, slot_bytes: usize, distance: usize) -> Ring {
        assert!(methods > 0 && slot_bytes > 0, "{methods} methods on slots of {slot_bytes} bytes");
        let mut ring = Ring { methods, lag: 1 };
        while ring.calls_between_uses() * slot_bytes < distance {
            ring.lag += 1;
        }
        ring
    }

    /// How many methods share it.
    #[must_use]
    pub fn methods(&self) -> usize {
        self.methods
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.methods * self.lag
    }

    /// Where a method works in a round.
    #[must_use]
    pub fn slot(&self, method: usize, round: usize) -> usize {
        (round + method * self.lag) % self.slots()
    }

    /// The fewest calls on other slots between two uses of one.
    fn calls_between_uses(&self) -> usize {
        let place = |method: usize, round: usize| {
            alternating(self.methods, round)
                .position(|other| other == method)
                .expect("every method runs in every round")
        };
        let gap = |method: usize, round: usize| {
            let next = (method + self.methods - 1) % self.methods;
            let rest_of_round = self.methods - 1 - place(method, round);
            rest_of_round + (self.lag - 1) * self.methods + place(next, round + self.lag)
        };
        (0..self.methods)
            .flat_map(|method| [gap(method, 0), gap(method, 1)])
            .min()
            .expect("there are methods")
    }
}

/// `0..count` in the order of that round: forwards in even rounds, backwards in odd ones.
pub fn alternating(count: usize, round: usize) -> impl Iterator<Item = usize> {
    let forwards = round.is_multiple_of(2);
    (0..count).map(move |place| if forwards { place } else { count - 1 - place })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    /// The slots in the order in which they are used, with the method that uses them.
    fn uses(ring: Ring, rounds: usize) -> Vec<(usize, usize)> {
        (0..rounds)
            .flat_map(|round| {
                alternating(ring.methods, round).map(move |method| (method, ring.slot(method, round)))
            })
            .collect()
    }

    #[test]
    fn the_distance_between_uses_is_what_a_simulation_finds() {
        for methods in 1..=8 {
            for lag in 1..=7 {
                let ring = Ring { methods, lag };
                let uses = uses(ring, 4 * ring.slots());
                let simulated = (0..uses.len())
                    .filter_map(|i| uses[i + 1..].iter().position(|&(_, slot)| slot == uses[i].1))
                    .min();
                assert_eq!(simulated, Some(ring.calls_between_uses()), "{ring:?}");
            }
        }
    }

    #[test]
    fn every_method_visits_every_slot_and_shares_none_in_a_round() {
        for (methods, lag) in [(1, 5), (2, 1), (2, 4), (3, 2), (7, 3)] {
            let ring = Ring { methods, lag };
            for method in 0..methods {
                let mut visited: Vec<usize> =
                    (0..ring.slots()).map(|round| ring.slot(method, round)).collect();
                visited.sort_unstable();
                assert!(visited.into_iter().eq(0..ring.slots()), "{ring:?}");
            }
            for round in 0..2 * ring.slots() {
                let mut used: Vec<usize> = (0..methods).map(|method| ring.slot(method, round)).collect();
                used.sort_unstable();
                used.dedup();
                assert_eq!(used.len(), methods, "{ring:?} in round {round}");
            }
        }
    }

    #[test]
    fn the_order_alternates() {
        assert_eq!(alternating(3, 0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(alternating(3, 1).collect::<Vec<_>>(), [2, 1, 0]);
        assert_eq!(alternating(3, 2).collect::<Vec<_>>(), [0, 1, 2]);
    }

    #[test]
    fn a_cold_ring_is_long_enough_and_no_longer() {
        for methods in 1..=7 {
            for slot_bytes in [MIB / 2, 3 * MIB, 66 * MIB, 600 * MIB] {
                let ring = Ring::cold(methods, slot_bytes, 96 * MIB);
                assert!(ring.calls_between_uses() * slot_bytes >= 96 * MIB, "{ring:?}");
                if ring.lag > 1 {
                    let shorter = Ring { methods, lag: ring.lag - 1 };
                    assert!(shorter.calls_between_uses() * slot_bytes < 96 * MIB, "{ring:?}");
                }
            }
        }
        // Pairs at M = 128 of the 1024 × 1024 layer; and at a size that no cache holds a third of.
        assert_eq!(Ring::cold(2, 3 * MIB, 96 * MIB).slots(), 34);
        assert_eq!(Ring::cold(2, 600 * MIB, 96 * MIB).slots(), 2);
    }
}

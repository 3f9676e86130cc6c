//! Slots of buffers that calls take in turn, so that a slot has left the caches when its turn comes again.
//!
//! The [ring](crate::ring) of the other benches has a slot a method at least. With 14 methods a round, and 25 MB of weights a slot, that
//! would be hundreds of megabytes of weights to no purpose: here the next call takes the next slot, whatever method it is of. No two
//! methods share a slot that is warm, since as many other slots lie between two uses as the cache demands.

/// A count of calls, and of the slots that they go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    slots: usize,
    calls: usize,
}

impl Rotation {
    /// The fewest slots with at least `distance` bytes of other slots between two uses of any one; and no divisor in common with the
    /// calls of a round, so that each method goes through all of them.
    ///
    /// # Panics
    ///
    /// If a slot holds nothing, or a round no call.
    #[must_use]
    pub fn cold(slot_bytes: usize, distance: usize, calls_of_round: usize) -> Rotation {
        assert!(
            slot_bytes > 0 && calls_of_round > 0,
            "{calls_of_round} calls on slots of {slot_bytes} bytes"
        );
        let fewest = 1 + distance.div_ceil(slot_bytes);
        let slots = (fewest..).find(|&slots| greatest_common_divisor(slots, calls_of_round) == 1);
        Rotation { slots: slots.expect("a number above the calls has no divisor in common"), calls: 0 }
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// The slot of the next call.
    pub fn advance(&mut self) -> usize {
        let slot = self.calls % self.slots;
        self.calls += 1;
        slot
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn enough_of_other_slots_lies_between_two_uses() {
        for (slot_bytes, calls) in
            [(25 * MIB, 14), (MIB / 2, 14), (92 * MIB, 14), (25 * MIB, 2), (200 * MIB, 3)]
        {
            let mut rotation = Rotation::cold(slot_bytes, 96 * MIB, calls);
            let slots = rotation.slots();
            assert!((slots - 1) * slot_bytes >= 96 * MIB, "{slots} slots of {slot_bytes}");
            let uses: Vec<usize> = (0..3 * slots).map(|_| rotation.advance()).collect();
            for (i, slot) in uses.iter().enumerate() {
                let next = uses[i + 1..].iter().position(|other| other == slot);
                assert!(next.is_none_or(|between| between == slots - 1));
            }
        }
        assert_eq!(Rotation::cold(25 * MIB, 96 * MIB, 14).slots(), 5);
        assert_eq!(Rotation::cold(25 * MIB, 0, 14).slots(), 1, "a rehearsal needs one");
    }

    #[test]
    fn every_method_goes_through_every_slot() {
        for calls in [1, 2, 5, 14, 15] {
            let mut rotation = Rotation::cold(25 * MIB, 96 * MIB, calls);
            let mut seen = vec![BTreeSet::new(); calls];
            for _ in 0..2 * rotation.slots() {
                for method in &mut seen {
                    method.insert(rotation.advance());
                }
            }
            assert!(seen.iter().all(|slots| slots.len() == rotation.slots()), "{calls} calls");
        }
    }
}

//! Which operands a call works on: the next slot of a ring, long enough that none is still in a cache when its turn comes again.
//!
//! One cursor serves all methods: it moves at every call that has operands, so the same distance lies between two uses of a slot in
//! whatever order the methods come.

/// Between two uses of a slot, so many times the last-level cache is touched.
pub const COLD: usize = 3;

/// Slots, and the next of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    slots: usize,
    next: usize,
}

/// The fewest slots with at least `distance` bytes of other slots between two uses of any one.
///
/// # Panics
///
/// If a slot holds nothing.
#[must_use]
pub fn slots(slot_bytes: usize, distance: usize) -> usize {
    assert!(slot_bytes > 0, "a slot without operands");
    1 + distance.div_ceil(slot_bytes)
}

impl Ring {
    /// At its first slot.
    ///
    /// # Panics
    ///
    /// If there are no slots.
    #[must_use]
    pub fn new(slots: usize) -> Ring {
        assert!(slots > 0, "a ring has a slot");
        Ring { slots, next: 0 }
    }

    /// The slot of the next call.
    pub fn advance(&mut self) -> usize {
        let slot = self.next;
        self.next = (slot + 1) % self.slots;
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn enough_of_other_slots_lies_between_two_uses() {
        for slot_bytes in [MIB / 2, 25 * MIB, 92 * MIB, 200 * MIB] {
            let slots = slots(slot_bytes, 96 * MIB);
            assert!((slots - 1) * slot_bytes >= 96 * MIB, "{slots} slots of {slot_bytes}");
            assert!(slots == 1 || (slots - 2) * slot_bytes < 96 * MIB, "no longer than it must be");
            let mut ring = Ring::new(slots);
            let uses: Vec<usize> = (0..3 * slots).map(|_| ring.advance()).collect();
            for (i, slot) in uses.iter().enumerate() {
                let between = uses[i + 1..].iter().position(|other| other == slot);
                assert!(between.is_none_or(|between| between == slots - 1));
            }
        }
        assert_eq!(slots(25 * MIB, 0), 1, "a test run needs one");
    }
}

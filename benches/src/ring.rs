//! Which operands a call works on: the next slot of a ring, long enough that none is still in a cache when its turn comes again.

/// Between two uses of a slot, so many times the last-level cache is touched.
pub const COLD: usize = 3;

/// The fewest slots with at least `distance` bytes of other slots between two uses of any one.
pub fn slots(slot_bytes: usize, distance: usize) -> usize {
    assert!(slot_bytes > 0, "a slot without operands");
    1 + distance.div_ceil(slot_bytes)
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
        }
        assert_eq!(slots(25 * MIB, 0), 1, "a test run needs one");
    }
}

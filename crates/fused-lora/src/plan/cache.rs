//! Plans that were made before.

/// How many entries are kept.
const CAPACITY: usize = 64;

/// The last [`CAPACITY`] entries; a new one takes the place of the oldest. Allocates only when it is added
/// to.
pub(crate) struct Cache<K, V> {
    entries: Vec<(K, V)>,
    /// The oldest, once all places are taken.
    oldest: usize,
}

impl<K: PartialEq, V: Copy> Cache<K, V> {
    pub(crate) const fn new() -> Self {
        Self { entries: Vec::new(), oldest: 0 }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.entries.iter().find(|(of, _)| of == key).map(|(_, value)| *value)
    }

    /// Adds the value of a key that is not in the cache.
    pub(crate) fn add(&mut self, key: K, value: V) {
        if self.entries.len() < CAPACITY {
            self.entries.push((key, value));
        } else {
            self.entries[self.oldest] = (key, value);
            self.oldest = (self.oldest + 1) % CAPACITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room() {
        let mut cache = Cache::new();
        for key in 0..3 * CAPACITY {
            assert_eq!(cache.get(&key), None);
            cache.add(key, 10 * key);
            assert!(cache.entries.len() <= CAPACITY);
            for kept in 0..=key {
                let expected = (kept + CAPACITY > key).then_some(10 * kept);
                assert_eq!(cache.get(&kept), expected, "{kept} after {key}");
            }
        }
    }
}

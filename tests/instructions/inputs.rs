//! Random inputs.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// A generator that gives the same everywhere.
pub(crate) fn generator(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Random words.
pub(crate) fn words(count: usize, seed: u64) -> Vec<u32> {
    let mut rng = generator(seed);
    (0..count).map(|_| rng.random()).collect()
}

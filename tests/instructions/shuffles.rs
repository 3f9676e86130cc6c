//! Shuffles.

use rand::RngExt as _;

use crate::{inputs, launch::check};

const ITEMS: usize = 12;
const THREADS: usize = 64;

#[test]
fn shfl_bfly() {
    let mut rng = inputs::generator(1);
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for item in 0..ITEMS {
        let words = inputs::words(THREADS, item as u64);
        // One mask for all lanes, as in a sum over the warp; then one for each.
        let one = rng.random_range(0..32);
        let masks: Vec<u32> =
            (0..THREADS).map(|_| if item % 2 == 0 { one } else { rng.random_range(0..32) }).collect();
        expected.extend((0..THREADS).map(|lane| words[lane ^ masks[lane] as usize]));
        input.extend(words);
        input.extend(masks);
    }
    check("shfl_bfly", ITEMS, &input, &expected);
}

#[test]
fn shfl_first() {
    let input = inputs::words(ITEMS * THREADS, 2);
    let expected: Vec<u32> = (0..input.len()).map(|at| input[at / 32 * 32]).collect();
    check("shfl_first", ITEMS, &input, &expected);
}

#[test]
fn elect() {
    // One lane of each warp, and the same each time.
    check("elect", ITEMS, &[], &[0x0001_0101; ITEMS * THREADS]);
}

//! Barriers in shared memory.

use rand::RngExt as _;

use crate::{inputs, launch::check};

const LANES: usize = 64;

#[test]
fn mbarrier_init_says_how_many_arrive() {
    const ITEMS: usize = 5;
    let mut rng = inputs::generator(1);
    let input: Vec<u32> = (0..ITEMS * LANES).map(|_| rng.random_range(1..10)).collect();
    check("mbarrier_init", ITEMS, &input, &input);
}

/// In phase p the wait for the parity of p fails, and that for the one before passes, also before the first.
#[test]
fn mbarrier_try_wait_knows_the_phase() {
    const ITEMS: usize = 3;
    let seen = 0b10 | 0b01 << 2 | 0b10 << 4;
    check("mbarrier_try_wait", ITEMS, &[], &[seen; ITEMS * LANES]);
}

#[test]
fn mbarrier_arrive_orders_what_was_stored() {
    const ITEMS: usize = 5;
    let input = inputs::words(2 * ITEMS * LANES, 2);
    let expected: Vec<u32> = input.chunks(LANES).flat_map(|words| words.iter().rev().copied()).collect();
    check("mbarrier_arrive", ITEMS, &input, &expected);
}

#[test]
fn mbarrier_arrive_cluster_reaches_all_ctas() {
    const ITEMS: usize = 8;
    check("mbarrier_arrive_cluster", ITEMS, &[], &[3 << 16; ITEMS * LANES]);
}

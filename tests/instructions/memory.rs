//! Weak loads and stores.

use crate::{inputs, launch::check};

const ITEMS: usize = 8;
const THREADS: usize = 64;

#[test]
fn global() {
    let input = inputs::words(ITEMS * 4 * THREADS, 1);
    for name in [
        "global_load_u16",
        "global_store_u16",
        "global_load_u32",
        "global_store_u32",
        "global_load_v4",
        "global_store_v4",
    ] {
        check(name, ITEMS, &input, &input);
    }
}

/// Where word `word` of lane `lane` is in shared memory, if `width` words of a lane lie side by side.
fn place(width: usize) -> impl Fn(usize, usize) -> usize {
    move |lane, word| (word / width * THREADS + lane) * width + word % width
}

/// Holds `name` to storing with one width and loading with another.
#[track_caller]
fn shared(name: &str, stored: usize, loaded: usize, lane: impl Fn(usize) -> usize) {
    let input = inputs::words(ITEMS * 4 * THREADS, 2);
    let (stored, loaded) = (place(stored), place(loaded));
    let mut expected = Vec::new();
    for item in input.chunks(4 * THREADS) {
        let mut memory = vec![0; 4 * THREADS];
        let places = || (0..THREADS).flat_map(|lane| (0..4).map(move |word| (lane, word)));
        places().zip(item).for_each(|((lane, word), &value)| memory[stored(lane, word)] = value);
        expected.extend(places().map(|(l, word)| memory[loaded(lane(l), word)]));
    }
    assert_ne!(input, expected, "the words move");
    check(name, ITEMS, &input, &expected);
}

#[test]
fn shared_memory() {
    shared("shared_load_u32", 4, 1, |lane| lane);
    shared("shared_store_u32", 1, 4, |lane| lane);
    shared("shared_store_v2", 2, 1, |lane| lane);
    shared("shared_load_v4", 2, 4, |lane| lane);
    shared("shared_store_v4", 4, 1, |lane| THREADS - 1 - lane);
}

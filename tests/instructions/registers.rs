//! Special registers, and what must not be seen at all.

use crate::{
    entry::{entry, grid},
    inputs,
    launch::check,
};

const ITEMS: usize = 9;
const THREADS: u32 = 64;

/// Holds `name` to a number for each item and lane.
#[track_caller]
fn numbers(name: &str, value: impl Fn(u32, u32) -> u32) {
    let all = (0..ITEMS as u32).flat_map(|item| (0..THREADS).map(move |lane| (item, lane)));
    let expected: Vec<u32> = all.map(|(item, lane)| value(item, lane)).collect();
    check(name, ITEMS, &[], &expected);
}

#[test]
fn special_registers() {
    numbers("thread_idx_x", |_, lane| lane);
    numbers("block_idx_x", |item, _| item);
    numbers("block_dim_x", |_, _| THREADS);
    numbers("grid_dim_x", |_, _| grid(&entry("grid_dim_x"), ITEMS));
    // From a multiple of 1024 on.
    numbers("dynamic_shared", |_, _| 0);
}

#[test]
fn opaque_changes_nothing() {
    let input = inputs::words(ITEMS * THREADS as usize, 1);
    check("opaque", ITEMS, &input, &input);
}

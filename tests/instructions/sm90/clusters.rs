//! Clusters.

use crate::{
    entry::{entry, grid},
    inputs,
    launch::check,
};

const ITEMS: usize = 12;
const LANES: usize = 64;

/// Holds `name` to a number for each item, the same for all lanes.
#[track_caller]
fn numbers(name: &str, value: impl Fn(u32) -> u32) {
    let expected: Vec<u32> = (0..ITEMS as u32).flat_map(|item| [value(item); LANES]).collect();
    check(name, ITEMS, &[], &expected);
}

#[test]
fn special_registers() {
    const CLUSTER: u32 = 4;
    let row = entry("cluster_ctarank");
    assert_eq!(row.cluster, CLUSTER);
    numbers("cluster_ctarank", |item| item % CLUSTER);
    numbers("cluster_nctarank", |_| CLUSTER);
    numbers("clusterid_x", |item| item / CLUSTER);
    numbers("nclusterid_x", |_| grid(&row, ITEMS) / CLUSTER);
}

#[test]
fn barrier_cluster() {
    let input = inputs::words(ITEMS * LANES, 1);
    let items: Vec<&[u32]> = input.chunks(LANES).collect();
    let next = |item: usize| item / 4 * 4 + (item + 1) % 4;
    let expected: Vec<u32> = (0..ITEMS)
        .flat_map(|item| items[item].iter().copied().chain(items[next(item)].iter().rev().copied()))
        .collect();
    check("barrier_cluster", ITEMS, &input, &expected);
}

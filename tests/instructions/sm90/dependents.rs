//! `griddepcontrol`: words through a chain of launches.

use crate::{entry::entry, inputs, launch::check};

const LANES: usize = 64;

#[test]
fn chains_of_launches() {
    for name in ["griddepcontrol_wait", "griddepcontrol_launch_dependents"] {
        for items in [1, 9] {
            let input = inputs::words(items * LANES, items as u64);
            let mut words = input.clone();
            for _ in 0..entry(name).launches {
                let step = |item: usize, lane: usize| {
                    words[(item + 1) % items * LANES + LANES - 1 - lane].wrapping_mul(3).wrapping_add(1)
                };
                words = (0..items).flat_map(|item| (0..LANES).map(move |lane| step(item, lane))).collect();
            }
            check(name, items, &input, &words);
        }
    }
}

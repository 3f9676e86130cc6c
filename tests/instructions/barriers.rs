//! Barriers.

use fused_lora_simt::{Action, Kind, Op, Schedule, Site};

use crate::{entry::entry, inputs, launch::check, strict};

const ITEMS: usize = 6;

/// Entry, barrier, lanes of an item, and those that exchange words: the first with the last.
const ENTRIES: [(&str, Op, usize, usize); 3] = [
    ("bar_sync", Op::BarSync, 128, 128),
    ("bar_sync_some", Op::BarSyncNamed, 128, 64),
    ("bar_warp_sync", Op::BarWarpSync, 64, 32),
];

#[test]
fn words_are_there_after_the_barrier() {
    for (name, _, lanes, together) in ENTRIES {
        let input = inputs::words(ITEMS * lanes, 1);
        let expected: Vec<u32> =
            input.chunks(together).flat_map(|words| words.iter().rev().copied()).collect();
        check(name, ITEMS, &input, &expected);
    }
}

#[test]
fn without_the_barrier_it_is_a_race() {
    for (name, op, words, _) in ENTRIES {
        for schedule in Schedule::standard(12) {
            let fault = schedule.with(Site::all(op).does(Action::Drop));
            let input = inputs::words(ITEMS * words, 3);
            let report = strict::run_under(&entry(name), ITEMS, &input, None, &fault);
            let kind = report.err().expect("a fault").kind;
            assert!(matches!(kind, Kind::Race { .. } | Kind::Poison { .. }), "{name}: {kind:?}");
        }
    }
}

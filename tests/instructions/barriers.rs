//! Barriers.

use fused_lora_simt::{Action, Kind, Op, Schedule, Site};

use crate::{entry::entry, inputs, launch::check, strict};

const ITEMS: usize = 6;

#[test]
fn bar_sync() {
    let input = inputs::words(ITEMS * 128, 1);
    let expected: Vec<u32> = input.chunks(128).flat_map(|words| words.iter().rev().copied()).collect();
    check("bar_sync", ITEMS, &input, &expected);
}

#[test]
fn bar_warp_sync() {
    let input = inputs::words(ITEMS * 64, 2);
    let expected: Vec<u32> = input.chunks(32).flat_map(|words| words.iter().rev().copied()).collect();
    check("bar_warp_sync", ITEMS, &input, &expected);
}

#[test]
fn bar_sync_some() {
    let input = inputs::words(ITEMS * 128, 4);
    let expected: Vec<u32> = input.chunks(64).flat_map(|words| words.iter().rev().copied()).collect();
    check("bar_sync_some", ITEMS, &input, &expected);
}

#[test]
fn without_the_barrier_it_is_a_race() {
    for (name, op, words) in [
        ("bar_sync", Op::BarSync, 128),
        ("bar_sync_some", Op::BarSyncNamed, 128),
        ("bar_warp_sync", Op::BarWarpSync, 64),
    ] {
        for schedule in Schedule::standard(12) {
            let fault = schedule.with(Site::all(op).does(Action::Drop));
            let input = inputs::words(ITEMS * words, 3);
            let report = strict::run_under(&entry(name), ITEMS, &input, None, &fault);
            let kind = report.err().expect("a fault").kind;
            assert!(matches!(kind, Kind::Race { .. } | Kind::Poison { .. }), "{name}: {kind:?}");
        }
    }
}

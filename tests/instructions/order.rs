//! Strong accesses.

use fused_lora_simt::{Action, Kind, Op, Schedule, Site};
use rand::RngExt as _;

use crate::{
    entry::entry,
    inputs,
    launch::{assert_words, check, run},
    strict,
};

const ITEMS: usize = 20;
const THREADS: usize = 64;

#[test]
fn values() {
    let input = inputs::words(ITEMS * THREADS, 1);
    check("load_acquire", ITEMS, &input, &input);
    check("store_relaxed", ITEMS, &input, &input);
}

#[test]
fn atom_inc_wraps() {
    let mut rng = inputs::generator(2);
    let mut input = Vec::new();
    for _ in 0..ITEMS * THREADS {
        let last = match rng.random_range(0..4) {
            0 => 0,
            1 => u32::MAX,
            2 => rng.random_range(0..5),
            _ => rng.random(),
        };
        let old = match rng.random_range(0..4) {
            0 => last,
            1 => last.wrapping_sub(1),
            2 => last.wrapping_add(1),
            _ => rng.random(),
        };
        input.extend([old, last]);
    }
    // PTX ISA, "atom", atom.inc: d = [a]; [a] = d >= b ? 0 : d + 1.
    let inc = |pair: &[u32]| [pair[0], if pair[0] >= pair[1] { 0 } else { pair[0] + 1 }];
    let expected: Vec<u32> = input.chunks(2).flat_map(inc).collect();
    check("atom_inc", ITEMS, &input, &expected);
}

#[test]
fn atom_inc_gives_each_number_to_one() {
    // Wraps in the midst: the first numbers are given once more.
    let (draws, last) = ((ITEMS * THREADS) as u32, 999);
    let mut expected: Vec<u32> = (0..draws).map(|draw| draw % (last + 1)).collect();
    expected.sort_unstable();
    for mut outcome in run("atom_inc_contended", ITEMS, &vec![last; ITEMS * THREADS]) {
        outcome.output.sort_unstable();
        assert_words("atom_inc_contended", &outcome, &expected, |found, expected| found == expected);
        assert_eq!(outcome.counters, [draws % (last + 1)], "by {}", outcome.by);
    }
}

#[test]
fn red_add_release_adds_all() {
    let input = inputs::words(ITEMS * THREADS, 3);
    let sum = |words: &[u32]| words.iter().fold(0, |sum: u32, &word| sum.wrapping_add(word));
    check("red_add_release", ITEMS, &input, &input.chunks(THREADS).map(sum).collect::<Vec<_>>());
}

/// More CTAs than any GPU runs at once, so that some have come and gone before others start, on a device.
#[test]
fn release_and_acquire_pass_words_on() {
    for items in [1, ITEMS, 5000] {
        let mut expected = vec![0u32; 4 * THREADS];
        let mut before = expected.clone();
        expected.clear();
        for _ in 0..items {
            let next = |(i, word): (usize, &u32)| word.wrapping_mul(3).wrapping_add((i / 4) as u32 + 1);
            before = before.iter().enumerate().map(next).collect();
            expected.extend(&before);
        }
        for outcome in run("release_acquire", items, &[]) {
            assert_words("release_acquire", &outcome, &expected, |found, expected| found == expected);
            // The tickets have wrapped, and everybody had a turn.
            assert_eq!(outcome.counters, [0, items as u32], "by {}", outcome.by);
        }
    }
}

#[test]
fn without_release_or_acquire_it_is_a_race() {
    for op in [Op::RedAddRelease, Op::LdAcquire] {
        for schedule in Schedule::standard(12) {
            let fault = schedule.with(Site::all(op).does(Action::Weaken));
            let report = strict::run_under(&entry("release_acquire"), ITEMS, &[], None, &fault).err();
            let kind = report.expect("a fault").kind;
            assert!(matches!(kind, Kind::Race { .. }), "{op:?}: {kind:?}");
        }
    }
}

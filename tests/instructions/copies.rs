//! Asynchronous copies.

use fused_lora_simt::{Action, Kind, Op, Schedule, Site};

use crate::{entry::entry, inputs, launch::check, strict};

const ITEMS: usize = 17;
const THREADS: usize = 64;

/// Data, then a number of bytes for each lane: all of them in each warp, on other lanes in each item.
fn item(number: usize) -> (Vec<u32>, Vec<u32>) {
    let bytes = (0..THREADS).map(|lane| ((lane + number) % 17) as u32).collect();
    (inputs::words(4 * THREADS, number as u64), bytes)
}

#[test]
fn cp_async_16_fills_up_with_zeros() {
    let (mut input, mut expected) = (Vec::new(), Vec::new());
    for (data, bytes) in (0..ITEMS).map(item) {
        for (row, &bytes) in data.chunks(4).zip(&bytes) {
            let mut row: [u8; 16] = bytes_of(row);
            row[bytes as usize..].fill(0);
            expected.extend(row.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())));
        }
        input.extend(data);
        input.extend(bytes);
    }
    check("cp_async_16", ITEMS, &input, &expected);
}

/// The bytes of four words, in memory order.
fn bytes_of(words: &[u32]) -> [u8; 16] {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.try_into().expect("four words")
}

#[test]
fn cp_async_commit_group() {
    let input = inputs::words(ITEMS * 12 * THREADS, 1);
    check("cp_async_commit_group", ITEMS, &input, &input);
}

#[test]
fn cp_async_wait_group() {
    let input = inputs::words(ITEMS * 16 * THREADS, 2);
    check("cp_async_wait_group", ITEMS, &input, &input);
}

#[test]
fn a_wait_one_group_short_is_a_race() {
    for (name, words) in [("cp_async_16", 5), ("cp_async_commit_group", 12), ("cp_async_wait_group", 16)] {
        for schedule in Schedule::standard(12) {
            let fault = schedule.with(Site::all(Op::CpAsyncWaitGroup).does(Action::WaitGroup(1)));
            let input: Vec<u32> = vec![16; ITEMS * words * THREADS];
            let report = strict::run_under(&entry(name), ITEMS, &input, None, &fault).err().expect("a fault");
            let expected = matches!(report.kind, Kind::Race { .. } | Kind::Poison { .. });
            assert!(expected, "{name}: {report}");
        }
    }
}

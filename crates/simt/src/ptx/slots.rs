//! Where a lane keeps its registers: a compiler's numbers are many, those that hold a value at one time few.
//!
//! Liveness by blocks (backwards, to a fixed point), then slots by linear scan (Poletto and Sarkar, 1999)
//! over intervals that cover every place where the register is live.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::{
    blocks::{Block, blocks, written},
    code::{Code, Instruction, NONE, Operation, Source},
};

/// Sets of registers, one after another.
struct Sets {
    words: usize,
    bits: Vec<u64>,
}

impl Sets {
    fn new(count: usize, registers: usize) -> Self {
        let words = registers.div_ceil(64);
        Self { words, bits: vec![0; count * words] }
    }

    fn insert(&mut self, set: usize, register: u16) {
        self.bits[set * self.words + usize::from(register) / 64] |= 1 << (register % 64);
    }

    fn has(&self, set: usize, register: u16) -> bool {
        self.bits[set * self.words + usize::from(register) / 64] >> (register % 64) & 1 == 1
    }

    fn words(&self, set: usize) -> &[u64] {
        &self.bits[set * self.words..(set + 1) * self.words]
    }

    fn registers(&self, set: usize) -> impl Iterator<Item = usize> {
        let of_word = |(index, &word): (usize, &u64)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| 64 * index + bit)
        };
        self.words(set).iter().enumerate().flat_map(of_word)
    }
}

/// Renumbers the registers of an entry.
pub(super) fn assign(code: &mut Code) {
    let blocks = blocks(&code.instructions);
    let intervals = intervals(code, &blocks);
    let mut order: Vec<usize> =
        (0..intervals.len()).filter(|&register| intervals[register].is_some()).collect();
    order.sort_by_key(|&register| intervals[register]);
    let mut slots = vec![NONE; intervals.len()];
    let mut busy: BinaryHeap<Reverse<(usize, u16)>> = BinaryHeap::new();
    let (mut free, mut count) = (Vec::new(), 0);
    for register in order {
        let Some((first, last)) = intervals[register] else { continue };
        while let Some(&Reverse((end, slot))) = busy.peek().filter(|Reverse((end, _))| *end < first) {
            debug_assert!(end < first);
            busy.pop();
            free.push(slot);
        }
        slots[register] = free.pop().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        busy.push(Reverse((last, slots[register])));
    }
    let slot = |register: u16| if register == NONE { NONE } else { slots[usize::from(register)] };
    for register in &mut code.results {
        *register = slot(*register);
    }
    for source in &mut code.sources {
        if let Source::Register(register) = source {
            *register = slot(*register);
        }
    }
    for instruction in &mut code.instructions {
        instruction.guard = slot(instruction.guard);
    }
    code.registers = usize::from(count);
}

/// What an instruction reads: sources and guard, and results that keep what they held, or are added to.
fn read<'a>(code: &'a Code, instruction: &'a Instruction) -> impl Iterator<Item = u16> + 'a {
    let (first, count) = instruction.sources;
    let sources =
        code.sources[first as usize..][..usize::from(count)].iter().filter_map(|source| match source {
            Source::Register(register) => Some(*register),
            _ => None,
        });
    let is_kept = instruction.guard != NONE || matches!(instruction.op, Operation::Wgmma(_));
    let results = if is_kept { written(code, instruction) } else { &[] };
    let guard = (instruction.guard != NONE).then_some(instruction.guard);
    sources.chain(results.iter().copied()).chain(guard).filter(|&register| register != NONE)
}

/// The first and the last place at which each register is live or written; None for one that is never used.
fn intervals(code: &Code, blocks: &[Block]) -> Vec<Option<(usize, usize)>> {
    let registers = code.registers;
    let (mut used, mut set) = (Sets::new(blocks.len(), registers), Sets::new(blocks.len(), registers));
    let mut intervals: Vec<Option<(usize, usize)>> = vec![None; registers];
    let mut cover = |register: usize, place: usize| {
        let (first, last) = intervals[register].unwrap_or((place, place));
        intervals[register] = Some((first.min(place), last.max(place)));
    };
    for (number, block) in blocks.iter().enumerate() {
        for (place, instruction) in (block.first..).zip(&code.instructions[block.first..block.end]) {
            for register in read(code, instruction) {
                cover(usize::from(register), place);
                if !set.has(number, register) {
                    used.insert(number, register);
                }
            }
            for &register in written(code, instruction).iter().filter(|&&register| register != NONE) {
                cover(usize::from(register), place);
                set.insert(number, register);
            }
        }
    }
    // What is live where a block begins: what it uses, and what those behind it need and it does not set.
    let mut live = used;
    let mut changes = true;
    while changes {
        changes = false;
        for (number, block) in blocks.iter().enumerate().rev() {
            for word in 0..live.words {
                let needed = block.next.iter().fold(0, |all, &next| all | live.words(next)[word]);
                let at = number * live.words + word;
                let new = live.bits[at] | needed & !set.words(number)[word];
                changes |= new != live.bits[at];
                live.bits[at] = new;
            }
        }
    }
    // Registers that a product reads are its own until a wait, which does not name them: nothing else gets
    // their slots.
    for instruction in &code.instructions {
        if matches!(instruction.op, Operation::Wgmma(product) if product.in_registers) {
            let (first, _) = instruction.sources;
            for source in &code.sources[first as usize..][..4] {
                if let Source::Register(register) = source {
                    cover(usize::from(*register), 0);
                    cover(usize::from(*register), code.instructions.len());
                }
            }
        }
    }
    for (number, block) in blocks.iter().enumerate() {
        for register in live.registers(number) {
            cover(register, block.first);
        }
        for &next in &block.next {
            for register in live.registers(next) {
                cover(register, block.end - 1);
            }
        }
    }
    intervals
}

//! Runs of instructions that are executed one after another, and which may follow which.

use super::code::{Code, Instruction, NONE, Operation};

/// A run of instructions that are executed one after another.
pub(super) struct Block {
    pub(super) first: usize,
    /// The first one behind it.
    pub(super) end: usize,
    pub(super) next: Vec<usize>,
}

/// Those of an entry, in their order.
pub(super) fn blocks(instructions: &[Instruction]) -> Vec<Block> {
    let count = instructions.len();
    let mut is_first = vec![false; count + 1];
    is_first[0] = true;
    for (place, instruction) in instructions.iter().enumerate() {
        match instruction.op {
            Operation::Branch(target) | Operation::BranchCase(target) => {
                is_first[target as usize] = true;
                is_first[place + 1] = true;
            }
            Operation::Return => is_first[place + 1] = true,
            _ => {}
        }
    }
    let firsts: Vec<usize> = (0..count).filter(|&place| is_first[place]).collect();
    let block_at = |place: usize| firsts.binary_search(&place).ok();
    let of = |(number, &first): (usize, &usize)| {
        let end = firsts.get(number + 1).copied().unwrap_or(count);
        let last = &instructions[end - 1];
        let goes_on = !matches!(last.op, Operation::Branch(_) | Operation::Return) || last.guard != NONE;
        let mut next: Vec<usize> = if goes_on { block_at(end).into_iter().collect() } else { Vec::new() };
        if let Operation::Branch(target) | Operation::BranchCase(target) = last.op {
            next.extend(block_at(target as usize));
        }
        Block { first, end, next }
    };
    firsts.iter().enumerate().map(of).collect()
}

/// What an instruction writes.
pub(super) fn written<'a>(code: &'a Code, instruction: &Instruction) -> &'a [u16] {
    let (first, count) = instruction.results;
    &code.results[first as usize..][..usize::from(count)]
}

//! Which products lack a `wgmma.fence`: on some way to them a register of theirs was written after the latest
//! one. PTX ISA, "wgmma.fence".
//!
//! The sums of a product are its own until a wait: further products that add to them need no fence.

use super::{
    blocks::{Block, blocks, written},
    code::{Code, NONE, Operation, Source},
};

/// Marks those that do.
pub(super) fn mark(code: &mut Code) {
    if !code.instructions.iter().any(|instruction| matches!(instruction.op, Operation::Wgmma(_))) {
        return;
    }
    let blocks = blocks(&code.instructions);
    let registers = code.registers;
    // What was written since the latest fence, where each block begins; all of it where the entry does.
    let mut starts: Vec<Option<Vec<bool>>> = vec![None; blocks.len()];
    starts[0] = Some(vec![true; registers]);
    let mut pending = vec![0];
    while let Some(number) = pending.pop() {
        let mut state = starts[number].clone().expect("it was reached");
        pass(code, &blocks[number], &mut state, |_| {});
        for &next in &blocks[number].next {
            let changed = match &mut starts[next] {
                Some(known) => known.iter_mut().zip(&state).fold(false, |changed, (known, &new)| {
                    let more = new && !*known;
                    *known |= new;
                    changed | more
                }),
                none => {
                    *none = Some(state.clone());
                    true
                }
            };
            if changed {
                pending.push(next);
            }
        }
    }
    let mut unfenced = Vec::new();
    for (block, start) in blocks.iter().zip(starts) {
        if let Some(mut state) = start {
            pass(code, block, &mut state, |place| unfenced.push(place));
        }
    }
    for place in unfenced {
        if let Operation::Wgmma(product) = &mut code.instructions[place].op {
            product.is_fenced = false;
        }
    }
}

/// Goes through a block; tells of products on registers that were written.
fn pass(code: &Code, block: &Block, state: &mut [bool], mut tell: impl FnMut(usize)) {
    for (place, instruction) in (block.first..).zip(&code.instructions[block.first..block.end]) {
        let results = written(code, instruction).iter().filter(|&&register| register != NONE);
        match instruction.op {
            Operation::WgmmaFence if instruction.guard == NONE => state.fill(false),
            Operation::Wgmma(product) => {
                let (first, _) = instruction.sources;
                let of_a = if product.in_registers { 4 } else { 0 };
                let reads = code.sources[first as usize..][..of_a].iter().filter_map(|source| match source {
                    Source::Register(register) => Some(register),
                    _ => None,
                });
                if results.clone().chain(reads).any(|&register| state[usize::from(register)]) {
                    tell(place);
                }
                results.for_each(|&register| state[usize::from(register)] = false);
            }
            _ => results.for_each(|&register| state[usize::from(register)] = true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ptx::Module;

    /// In the modules that are shipped every product is behind its fence.
    #[test]
    fn products_of_the_shipped_modules_are_fenced() {
        for name in ["sm_90a", "sm_90a_instructions"] {
            let path = format!("{}/../../kernels/ptx/{name}.ptx", env!("CARGO_MANIFEST_DIR"));
            let text = std::fs::read_to_string(path).expect("it is checked in");
            let module = Module::parse(name, &text).unwrap_or_else(|refused| panic!("{name}: {refused}"));
            for entry in module.entries() {
                for instruction in &entry.code().instructions {
                    let is_bare = matches!(instruction.op, Operation::Wgmma(product) if !product.is_fenced);
                    assert!(!is_bare, "{name}, {}, line {}", entry.name(), instruction.line);
                }
            }
        }
    }
}

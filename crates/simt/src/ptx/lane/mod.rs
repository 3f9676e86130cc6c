//! A lane executes an entry.

mod execute;
mod memory;
mod products;
mod special;

use std::{rc::Rc, sync::Arc};

use super::{
    arithmetic::compute,
    code::{Code, Instruction, NONE, Operation as Op, Source},
    parameter::Parameter,
};
use crate::{
    coverage::{EXECUTED, Marks, TAKEN, waited},
    ops,
    scheduler::with,
    site::Op as MachineOp,
};
use products::Products;

/// Where generic addresses of parameters start. Nothing else is there.
pub(super) const PARAMETERS: u64 = 0x7000_0000_0000_0000;
/// Where generic addresses of shared memory start. Not at a multiple of 2^32, so that one that is cut to 32 bits is nobody's.
pub(super) const GENERIC_SHARED: u64 = 0x6000_0000_4000_0000;
/// What a register holds before it is written.
const UNWRITTEN: u64 = 0xbad0_bad0_bad0_bad0;

/// What all lanes of a launch have in common.
pub(super) struct Kernel {
    pub(super) code: Arc<Code>,
    pub(super) seen: Rc<Marks>,
    pub(super) parameters: Rc<[u8]>,
    /// Where each of them lies.
    pub(super) places: Vec<Parameter>,
}

struct Lane<'a> {
    kernel: &'a Kernel,
    registers: Vec<u64>,
    products: Products,
}

/// Runs the current lane to its end.
pub(super) fn run(kernel: &Kernel) {
    let code = &*kernel.code;
    let count = code.registers;
    let mut lane = Lane { kernel, registers: vec![UNWRITTEN; count], products: Products::new(count) };
    let mut next = 0;
    loop {
        let instruction = &code.instructions[next];
        kernel.seen.see(next, EXECUTED);
        next += 1;
        if instruction.guard != NONE
            && (lane.registers[usize::from(instruction.guard)] & 1 == 1) == instruction.negated
        {
            continue;
        }
        if lane.products.are_any() {
            lane.keep_off(instruction);
        }
        match instruction.op {
            Op::Arithmetic(op, ty, rounding) => {
                let result = compute(op, ty, rounding, lane.three(instruction));
                lane.set(instruction, 0, result);
            }
            Op::Branch(target) => {
                kernel.seen.see(next - 1, TAKEN);
                next = target as usize;
            }
            Op::BranchCase(target) => {
                let [index, number, count] = lane.three(instruction);
                if index == number {
                    kernel.seen.see(next - 1, TAKEN);
                    next = target as usize;
                } else if number + 1 == count {
                    lane.at(instruction);
                    panic!("brx.idx by {index}, of {count} targets");
                }
            }
            Op::MbarrierTryWait | Op::MbarrierTestWait => {
                kernel.seen.see(next - 1, waited(lane.get32(instruction, 2)));
                lane.execute(instruction);
            }
            Op::Return => break,
            _ => lane.execute(instruction),
        }
    }
    if lane.products.is_open() {
        lane.fail("the lane ends with wgmma that no commit_group follows");
    }
}

impl Lane<'_> {
    fn sources(&self, instruction: &Instruction) -> &[Source] {
        let (first, count) = instruction.sources;
        &self.kernel.code.sources[first as usize..][..usize::from(count)]
    }

    fn results(&self, instruction: &Instruction) -> &[u16] {
        let (first, count) = instruction.results;
        &self.kernel.code.results[first as usize..][..usize::from(count)]
    }

    fn value(&self, source: Source) -> u64 {
        match source {
            Source::Register(register) => self.registers[usize::from(register)],
            Source::Constant(value) => value,
            Source::Special(special) => u64::from(special::value(special)),
        }
    }

    /// The sources of arithmetic, zeros behind them.
    fn three(&self, instruction: &Instruction) -> [u64; 3] {
        let mut three = [0; 3];
        for (value, &source) in three.iter_mut().zip(self.sources(instruction)) {
            *value = self.value(source);
        }
        three
    }

    fn get(&self, instruction: &Instruction, index: usize) -> u64 {
        self.value(self.sources(instruction)[index])
    }

    fn get32(&self, instruction: &Instruction, index: usize) -> u32 {
        self.get(instruction, index) as u32
    }

    /// So many values from the source at `index` on.
    fn words<const N: usize>(&self, instruction: &Instruction, index: usize) -> [u32; N] {
        std::array::from_fn(|i| self.get32(instruction, index + i))
    }

    /// The address that the sources `index` and `index + 1` make.
    fn address(&self, instruction: &Instruction, index: usize) -> u64 {
        self.get(instruction, index).wrapping_add(self.get(instruction, index + 1))
    }

    fn shared(&self, instruction: &Instruction, index: usize) -> u32 {
        self.address(instruction, index) as u32
    }

    /// Sets a result, if it is wanted.
    fn set(&mut self, instruction: &Instruction, index: usize, value: u64) {
        let register = self.results(instruction).get(index).copied().unwrap_or(NONE);
        if register != NONE {
            self.registers[usize::from(register)] = value;
        }
    }

    /// Whether the predicate that the sources `index` and `index + 1` make is true.
    fn predicate(&self, instruction: &Instruction, index: usize) -> bool {
        (self.get(instruction, index) ^ self.get(instruction, index + 1)) & 1 == 1
    }

    fn set_all(&mut self, instruction: &Instruction, values: impl IntoIterator<Item = u32>) {
        for (index, value) in values.into_iter().enumerate() {
            self.set(instruction, index, u64::from(value));
        }
    }

    /// The instruction that reports are to name.
    fn at(&self, instruction: &Instruction) {
        with(|run| run.lane_mut().ptx = Some(instruction.line));
    }

    /// Ends the run with a fault of wgmma's registers.
    fn fail(&self, reason: &str) -> ! {
        ops::refuse(MachineOp::WgmmaF16, reason)
    }
}

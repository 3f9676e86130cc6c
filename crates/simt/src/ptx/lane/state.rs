//! A lane's registers, and how instructions read and write them.

use std::{rc::Rc, sync::Arc};

use super::{
    super::{
        code::{Code, Instruction, NONE, Source},
        parameter::Parameter,
    },
    in_flight::Products,
    special,
};
use crate::{coverage::Marks, ops, scheduler::with, site::Op as MachineOp};

/// Where generic addresses of parameters start. Nothing else is there.
pub(in crate::ptx) const PARAMETERS: u64 = 0x7000_0000_0000_0000;
/// Where generic addresses of shared memory start. Not at a multiple of 2^32, so that one that is cut to 32
/// bits is nobody's.
pub(in crate::ptx) const GENERIC_SHARED: u64 = 0x6000_0000_4000_0000;
/// Where generic addresses of local memory start, and those of the module's constants.
pub(in crate::ptx) const GENERIC_LOCAL: u64 = 0x6400_0000_4000_0000;
pub(in crate::ptx) const CONSTANTS: u64 = 0x6800_0000_0000_0000;
/// What a register holds before it is written.
pub(super) const UNWRITTEN: u64 = 0xbad0_bad0_bad0_bad0;

/// What all lanes of a launch have in common.
pub(in crate::ptx) struct Kernel {
    pub(in crate::ptx) code: Arc<Code>,
    pub(in crate::ptx) seen: Rc<Marks>,
    pub(in crate::ptx) parameters: Rc<[u8]>,
    /// Where each of them lies.
    pub(in crate::ptx) places: Vec<Parameter>,
}

/// A lane while it executes.
pub(super) struct Lane<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) registers: Vec<u64>,
    pub(super) products: Products,
    /// Bytes of local memory; None before they are written.
    pub(super) local: Vec<Option<u8>>,
}

impl Lane<'_> {
    pub(super) fn sources(&self, instruction: &Instruction) -> &[Source] {
        let (first, count) = instruction.sources;
        &self.kernel.code.sources[first as usize..][..usize::from(count)]
    }

    pub(super) fn results(&self, instruction: &Instruction) -> &[u16] {
        let (first, count) = instruction.results;
        &self.kernel.code.results[first as usize..][..usize::from(count)]
    }

    pub(super) fn value(&self, source: Source) -> u64 {
        match source {
            Source::Register(register) => self.registers[usize::from(register)],
            Source::Constant(value) => value,
            Source::Special(special) => special::value(special),
        }
    }

    /// The sources of arithmetic, zeros behind them.
    pub(super) fn three(&self, instruction: &Instruction) -> [u64; 3] {
        let mut three = [0; 3];
        for (value, &source) in three.iter_mut().zip(self.sources(instruction)) {
            *value = self.value(source);
        }
        three
    }

    pub(super) fn get(&self, instruction: &Instruction, index: usize) -> u64 {
        self.value(self.sources(instruction)[index])
    }

    pub(super) fn get32(&self, instruction: &Instruction, index: usize) -> u32 {
        self.get(instruction, index) as u32
    }

    /// So many values from the source at `index` on.
    pub(super) fn words<const N: usize>(&self, instruction: &Instruction, index: usize) -> [u32; N] {
        std::array::from_fn(|i| self.get32(instruction, index + i))
    }

    /// The address that the sources `index` and `index + 1` make.
    pub(super) fn address(&self, instruction: &Instruction, index: usize) -> u64 {
        self.get(instruction, index).wrapping_add(self.get(instruction, index + 1))
    }

    pub(super) fn shared(&self, instruction: &Instruction, index: usize) -> u32 {
        self.address(instruction, index) as u32
    }

    /// Sets a result, if it is wanted.
    pub(super) fn set(&mut self, instruction: &Instruction, index: usize, value: u64) {
        let register = self.results(instruction).get(index).copied().unwrap_or(NONE);
        if register != NONE {
            self.registers[usize::from(register)] = value;
        }
    }

    /// Whether the predicate that the sources `index` and `index + 1` make is true.
    pub(super) fn predicate(&self, instruction: &Instruction, index: usize) -> bool {
        (self.get(instruction, index) ^ self.get(instruction, index + 1)) & 1 == 1
    }

    pub(super) fn set_all(&mut self, instruction: &Instruction, values: impl IntoIterator<Item = u32>) {
        for (index, value) in values.into_iter().enumerate() {
            self.set(instruction, index, u64::from(value));
        }
    }

    /// The instruction that reports are to name.
    pub(super) fn at(&self, instruction: &Instruction) {
        with(|run| run.lane_mut().ptx = Some(instruction.line));
    }

    /// Ends the run with a fault of wgmma's registers.
    pub(super) fn fail(&self, reason: &str) -> ! {
        ops::refuse(MachineOp::WgmmaF16, reason)
    }
}

//! A lane executes an entry.

mod execute;
mod in_flight;
mod maps;
mod memory;
mod products;
mod special;
mod state;

use super::{
    arithmetic::compute,
    code::{NONE, Operation as Op},
};
use crate::coverage::{EXECUTED, TAKEN, waited};
use in_flight::Products;
use state::{Lane, UNWRITTEN};

pub(super) use state::{CONSTANTS, GENERIC_LOCAL, GENERIC_SHARED, Kernel, PARAMETERS};

/// Runs the current lane to its end.
pub(super) fn run(kernel: &Kernel) {
    let code = &*kernel.code;
    let count = code.registers;
    let mut lane = Lane {
        kernel,
        registers: vec![UNWRITTEN; count],
        products: Products::new(count),
        local: vec![None; code.local as usize],
    };
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
            Op::MbarrierTryWait(_) | Op::MbarrierTestWait(_) => {
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

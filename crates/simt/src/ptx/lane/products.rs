//! wgmma as a lane executes it: registers that products under way have, groups, sums.

use smallvec::SmallVec;

use super::{
    super::code::{Instruction, NONE, Operation as Op, Product, Source},
    in_flight::{READ, Registers, SUM},
    state::Lane,
};
use crate::{exec::wgmma::LaneStep, ops};

impl Lane<'_> {
    /// A register that a product under way adds to must not be touched before a wait covers it, one that it
    /// reads not be written. PTX ISA, "Warpgroup".
    pub(super) fn keep_off(&self, instruction: &Instruction) {
        let mark =
            |register: u16| if register == NONE { 0 } else { self.products.marks[usize::from(register)] };
        let reads_sum = self.sources(instruction).iter().any(|source| match source {
            Source::Register(register) => mark(*register) & SUM != 0,
            _ => false,
        });
        // Further products may add to the same sums.
        let is_product = matches!(instruction.op, Op::Wgmma(_));
        let allowed = if is_product { SUM } else { 0 };
        let writes = self.results(instruction).iter().any(|&register| mark(register) & !allowed != 0);
        if reads_sum || writes {
            self.at(instruction);
            self.fail(
                "a register that a wgmma under way adds to, or reads, is touched before a wait covers it",
            );
        }
    }

    /// wgmma: it is given to the machine with its group.
    pub(super) fn multiply(&mut self, i: &Instruction, product: Product) {
        if !product.is_fenced {
            self.fail("no wgmma.fence since a register of it was written, on some way here");
        }
        let registers = if product.in_registers { self.words(i, 0) } else { [0; 4] };
        let (a, next) = if product.in_registers { (0, 4) } else { (self.get(i, 0), 1) };
        let b = self.get(i, next);
        let keeps = self.predicate(i, next + 1);
        let step = LaneStep { product, a, registers, b, keeps };
        let sums: Registers = SmallVec::from_slice(self.results(i));
        self.products.mark(&sums, SUM);
        if product.in_registers {
            let of_a: Registers = self.sources(i)[..4]
                .iter()
                .filter_map(|source| match source {
                    Source::Register(register) => Some(*register),
                    _ => None,
                })
                .collect();
            self.products.mark(&of_a, READ);
        }
        let open = self.products.open.iter_mut().find(|(open, _)| *open == sums);
        match open {
            Some((_, steps)) => steps.push(step),
            None => self.products.open.push((sums, vec![step])),
        }
    }

    fn accumulators(&self, registers: &[u16]) -> Vec<f32> {
        let value = |&register: &u16| f32::from_bits(self.registers[usize::from(register)] as u32);
        registers.iter().map(value).collect()
    }

    fn set_accumulators(&mut self, registers: &[u16], values: &[f32]) {
        for (&register, value) in registers.iter().zip(values) {
            self.registers[usize::from(register)] = u64::from(value.to_bits());
        }
    }

    pub(super) fn commit(&mut self) {
        let open = std::mem::take(&mut self.products.open);
        let mut group: Vec<_> = open
            .into_iter()
            .map(|(registers, steps)| {
                let mut sums = self.accumulators(&registers);
                let is_in_flight = sums.first().is_some_and(|&sum| ops::is_pending(sum));
                if !steps[0].keeps && !is_in_flight {
                    // Whatever they hold, also of another product.
                    sums.fill(0.0);
                }
                (registers, (sums, steps))
            })
            .collect();
        let mut parts: Vec<_> = group.iter_mut().map(|(_, part)| std::mem::take(part)).collect();
        ops::wgmma_group(&mut parts);
        for ((registers, _), (sums, _)) in group.iter().zip(&parts) {
            self.set_accumulators(registers, sums);
        }
        self.products.committed += 1;
    }

    pub(super) fn wait(&mut self, pending: u32) {
        let in_flight = std::mem::take(&mut self.products.in_flight);
        let (sums, mut reads): (Vec<_>, Vec<_>) = in_flight.into_iter().partition(|one| one.mark == SUM);
        let mut values: Vec<Vec<f32>> = sums.iter().map(|one| self.accumulators(&one.registers)).collect();
        let delivered = ops::wgmma_wait_groups(pending, &mut values);
        for ((one, values), is_delivered) in sums.into_iter().zip(values).zip(delivered) {
            if is_delivered {
                self.set_accumulators(&one.registers, &values);
            } else {
                self.products.in_flight.push(one);
            }
        }
        let done = self.products.committed.saturating_sub(pending);
        reads.retain(|one| one.group >= done);
        self.products.in_flight.append(&mut reads);
        self.products.mark_again();
    }
}

//! Registers that products under way have.

use smallvec::SmallVec;

use crate::exec::wgmma::LaneStep;

/// Registers of a product, in their order.
pub(super) type Registers = SmallVec<[u16; 4]>;

/// Accumulators, which must not be touched; and registers of A, which must not be written.
pub(super) const SUM: u8 = 1;
pub(super) const READ: u8 = 2;

/// Registers that products under way have.
pub(super) struct InFlight {
    pub(super) registers: Registers,
    pub(super) mark: u8,
    /// The number of the group that last used them.
    pub(super) group: u32,
}

/// The products of a lane.
pub(super) struct Products {
    /// Those since the latest commit, by their accumulators.
    pub(super) open: Vec<(Registers, Vec<LaneStep>)>,
    pub(super) in_flight: Vec<InFlight>,
    /// What each register is to a product.
    pub(super) marks: Vec<u8>,
    /// Groups that were committed.
    pub(super) committed: u32,
}

impl Products {
    pub(super) fn new(registers: usize) -> Self {
        Self { open: Vec::new(), in_flight: Vec::new(), marks: vec![0; registers], committed: 0 }
    }

    /// Whether any are under way.
    #[inline]
    pub(super) fn are_any(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether some were not committed.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// The latest use of these registers is by the group that is open.
    pub(super) fn mark(&mut self, registers: &[u16], mark: u8) {
        for &register in registers {
            self.marks[usize::from(register)] |= mark;
        }
        let known =
            self.in_flight.iter_mut().find(|known| known.mark == mark && *known.registers == *registers);
        match known {
            Some(known) => known.group = self.committed,
            None => self.in_flight.push(InFlight {
                registers: SmallVec::from_slice(registers),
                mark,
                group: self.committed,
            }),
        }
    }

    /// Sets the marks of those that are still under way.
    pub(super) fn mark_again(&mut self) {
        self.marks.fill(0);
        for InFlight { registers, mark, .. } in &self.in_flight {
            for &register in registers {
                self.marks[usize::from(register)] |= mark;
            }
        }
    }
}

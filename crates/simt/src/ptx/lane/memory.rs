//! Loads, stores and atomics of a lane, and tensor maps.

use super::{
    super::{
        arithmetic::compute,
        code::{Arithmetic as A, Instruction, Operation as Op, Order, Space, Update},
        parameter::Parameter,
        types::{Kind, Rounding, Type},
    },
    state::{GENERIC_SHARED, Lane, PARAMETERS},
};
use crate::{clock, exec::memory::Word, ops, site::Op as MachineOp};

/// Bytes of a tensor map, and what its address must be a multiple of (PTX ISA 5.5.8).
const MAP_BYTES: usize = 128;
const MAP_ALIGN: u32 = 64;

/// A load of so many bytes, to the lower ones of a number.
macro_rules! load {
    ($load:path, $address:expr, $bytes:expr) => {
        match $bytes {
            1 => u128::from(u8::from_le_bytes($load($address))),
            2 => u128::from(u16::from_le_bytes($load($address))),
            4 => u128::from(u32::from_le_bytes($load($address))),
            8 => u128::from(u64::from_le_bytes($load($address))),
            _ => u128::from_le_bytes($load($address)),
        }
    };
}

/// A store of the lower bytes of a number.
macro_rules! store {
    ($store:path, $address:expr, $bytes:expr, $value:expr) => {
        match $bytes {
            1 => $store($address, ($value as u8).to_le_bytes()),
            2 => $store($address, ($value as u16).to_le_bytes()),
            4 => $store($address, ($value as u32).to_le_bytes()),
            8 => $store($address, ($value as u64).to_le_bytes()),
            _ => $store($address, $value.to_le_bytes()),
        }
    };
}

/// Where a generic address is, and what it is there. Global ones and those of parameters are as they are.
fn found(space: Space, address: u64) -> (Space, u64) {
    match space {
        Space::Generic if address >> 32 == GENERIC_SHARED >> 32 => {
            (Space::Shared, u64::from((address as u32).wrapping_sub(GENERIC_SHARED as u32)))
        }
        Space::Generic => (Space::Global, address),
        _ => (space, address),
    }
}

fn mask(bits: u32) -> u128 {
    (1 << bits) - 1
}

impl Lane<'_> {
    pub(super) fn load(&mut self, i: &Instruction, space: Space, bits: u32) {
        let count = self.results(i).len();
        let bytes = bits as usize / 8 * count;
        let (is_in, address) = found(space, self.address(i, 0));
        if space == Space::Generic && address >= PARAMETERS {
            return self.load_parameter(i, bits, address - PARAMETERS);
        }
        let value = match is_in {
            Space::Shared => load!(ops::ld_shared, address as u32, bytes),
            _ => load!(ops::ld_global, address, bytes),
        };
        for index in 0..count {
            self.set(i, index, (value >> (index as u32 * bits) & mask(bits)) as u64);
        }
    }

    pub(super) fn store(&mut self, i: &Instruction, space: Space, bits: u32) {
        let count = self.sources(i).len() - 2;
        let word = |index: usize| u128::from(self.get(i, 2 + index)) & mask(bits);
        let value = (0..count).fold(0, |value, index| value | word(index) << (index as u32 * bits));
        let bytes = bits as usize / 8 * count;
        match found(space, self.address(i, 0)) {
            (Space::Shared, address) => store!(ops::st_shared, address as u32, bytes, value),
            (_, address) => store!(ops::st_global, address, bytes, value),
        }
    }

    /// The word of a strong access.
    fn word(&self, i: &Instruction, index: usize, space: Space, bits: u32) -> Word {
        let (space, address) = found(space, self.address(i, index));
        let space = if space == Space::Shared { clock::Space::Shared } else { clock::Space::Global };
        Word { space, address, bytes: bits as usize / 8 }
    }

    pub(super) fn load_strong(&mut self, i: &Instruction, space: Space, bits: u32, order: Order) {
        let value = ops::ld_strong(self.word(i, 0, space, bits), order.acquires());
        self.set(i, 0, value);
    }

    pub(super) fn store_strong(&self, i: &Instruction, space: Space, bits: u32, order: Order) {
        ops::st_strong(self.word(i, 0, space, bits), self.get(i, 2), order.releases());
    }

    /// A read-modify-write: of a vector one after another.
    pub(super) fn atomic(&mut self, i: &Instruction, space: Space, update: Update, ty: Type, order: Order) {
        let word = self.word(i, 0, space, ty.bits);
        let [given, other] =
            [2, 3].map(|index| self.sources(i).get(index).map_or(0, |&source| self.value(source)));
        let orders = (order.acquires(), order.releases());
        if self.results(i).is_empty() && !order.acquires() {
            let op = match (update, order) {
                (Update::Add, Order::Release) => MachineOp::RedAddRelease,
                _ => MachineOp::Red,
            };
            let count = self.sources(i).len() - 2;
            if !word.address.is_multiple_of((count * word.bytes) as u64) {
                ops::refuse(op, "a vector whose address is no multiple of its bytes");
            }
            for index in 0..count {
                let given = self.get(i, 2 + index);
                let word = Word { address: word.address + (index * word.bytes) as u64, ..word };
                ops::red(op, word, order.releases(), |old| updated(update, ty, [old, given, 0]));
            }
            return;
        }
        let op = match (update, order) {
            (Update::Inc, Order::Relaxed) => MachineOp::AtomInc,
            _ => MachineOp::Atom,
        };
        let old = ops::atom(op, word, orders, |old| updated(update, ty, [old, given, other]));
        self.set(i, 0, old);
    }

    /// Words from an address of parameters, which is where they lie from the first one.
    pub(super) fn load_parameter(&mut self, i: &Instruction, bits: u32, address: u64) {
        let mut at = address as usize;
        let bytes = bits as usize / 8;
        for index in 0..self.results(i).len() {
            let mut word = [0; 8];
            let Some(from) = self.kernel.parameters.get(at..at.saturating_add(bytes)) else {
                panic!("a parameter at byte {at}, of {}", self.kernel.parameters.len());
            };
            word[..bytes].copy_from_slice(from);
            self.set(i, index, u64::from_le_bytes(word));
            at += bytes;
        }
    }

    /// The machine's name of an instruction on a tensor map.
    fn op(instruction: &Instruction) -> MachineOp {
        match instruction.op {
            Op::TensorLoad(_) => MachineOp::CpAsyncBulkTensor2dLoad,
            Op::TensorLoadMulticast(_) => MachineOp::CpAsyncBulkTensor2dLoadMulticast,
            Op::TensorStore(_) => MachineOp::CpAsyncBulkTensor2dStore,
            Op::TensorPrefetch(_) => MachineOp::CpAsyncBulkPrefetchTensor,
            _ => MachineOp::PrefetchTensormap,
        }
    }

    /// The tensor map at the address that the sources `index` and `index + 1` make.
    pub(super) fn map(&self, i: &Instruction, index: usize) -> [u64; 16] {
        let at = self.address(i, index).wrapping_sub(PARAMETERS) as usize;
        let Some(bytes) = self.kernel.parameters.get(at..at.saturating_add(MAP_BYTES)) else {
            ops::refuse(Self::op(i), "a tensor map that is in no parameter");
        };
        let at = at as u32;
        let holds = |place: &&Parameter| (place.offset..place.offset + place.bytes).contains(&at);
        let align = self.kernel.places.iter().find(holds).map_or(1, |place| place.align);
        if !align.is_multiple_of(MAP_ALIGN) || !at.is_multiple_of(MAP_ALIGN) {
            ops::refuse(Self::op(i), "a tensor map whose address need not be a multiple of 64");
        }
        std::array::from_fn(|word| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * word + byte])))
    }
}

/// What a read-modify-write leaves of `old`, with what is given. PTX ISA 9.7.13.5.
fn updated(update: Update, ty: Type, [old, given, other]: [u64; 3]) -> u64 {
    let plain = Rounding::default();
    let given = ty.cut(given);
    let of = |op: A| compute(op, ty, plain, [old, given, 0]);
    let of_bits = |op: A| compute(op, Type::new(ty.bits, Kind::Bits), plain, [old, given, 0]);
    match update {
        Update::Add => of(A::Add),
        Update::Min => of(A::Min),
        Update::Max => of(A::Max),
        Update::Inc => {
            if old >= given {
                0
            } else {
                old + 1
            }
        }
        Update::Dec => {
            if old == 0 || old > given {
                given
            } else {
                old - 1
            }
        }
        Update::And => of_bits(A::And),
        Update::Or => of_bits(A::Or),
        Update::Xor => of_bits(A::Xor),
        Update::Exchange => given,
        Update::CompareExchange => {
            if old == given {
                ty.cut(other)
            } else {
                old
            }
        }
    }
}

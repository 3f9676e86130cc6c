//! Loads, stores and atomics of a lane, and tensor maps.

use super::{
    super::{
        arithmetic::compute,
        code::{Arithmetic as A, Instruction, Order, Space, Update},
        types::{Kind, Rounding, Type},
    },
    state::{CONSTANTS, GENERIC_LOCAL, GENERIC_SHARED, Lane, PARAMETERS},
};
use crate::{clock, exec::memory::Word, ops, site::Op as MachineOp};

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
pub(super) fn found(space: Space, address: u64) -> (Space, u64) {
    match space {
        Space::Generic if address >> 32 == GENERIC_SHARED >> 32 => {
            (Space::Shared, u64::from((address as u32).wrapping_sub(GENERIC_SHARED as u32)))
        }
        Space::Generic if address >> 32 == GENERIC_LOCAL >> 32 => {
            (Space::Local, address.wrapping_sub(GENERIC_LOCAL))
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
        let value = match is_in {
            Space::Shared => load!(ops::ld_shared, address as u32, bytes),
            Space::Local => self.load_local(address as u32, bytes),
            Space::Cluster => load!(ops::ld_cluster, address as u32, bytes),
            _ if address >= PARAMETERS => return self.load_parameter(i, bits, address - PARAMETERS),
            _ if address >= CONSTANTS => self.load_constant(address - CONSTANTS, bytes),
            _ => load!(ops::ld_global, address, bytes),
        };
        for index in 0..count {
            self.set(i, index, (value >> (index as u32 * bits) & mask(bits)) as u64);
        }
    }

    /// `ld.global.nc`.
    pub(super) fn load_non_coherent(&mut self, i: &Instruction, bits: u32) {
        let count = self.results(i).len();
        let (address, bytes) = (self.address(i, 0), bits as usize / 8 * count);
        let value = if address >= CONSTANTS {
            self.load_constant(address - CONSTANTS, bytes)
        } else {
            load!(ops::ld_global_nc, address, bytes)
        };
        for index in 0..count {
            self.set(i, index, (value >> (index as u32 * bits) & mask(bits)) as u64);
        }
    }

    /// Where so many bytes of local memory lie.
    fn local_place(&self, address: u32, bytes: usize) -> usize {
        let at = address as usize;
        if at + bytes > self.local.len() || !at.is_multiple_of(bytes) {
            panic!("{bytes} bytes at {at} of local memory, which has {}", self.local.len());
        }
        at
    }

    fn load_local(&self, address: u32, bytes: usize) -> u128 {
        let at = self.local_place(address, bytes);
        let all = self.local[at..at + bytes].iter().rev();
        all.fold(0, |value, byte| {
            let byte = byte.unwrap_or_else(|| panic!("a load of local memory that nobody wrote, at {at}"));
            value << 8 | u128::from(byte)
        })
    }

    fn load_constant(&self, at: u64, bytes: usize) -> u128 {
        let all = &self.kernel.code.constants;
        let Some(found) = all.get(at as usize..(at as usize).saturating_add(bytes)) else {
            panic!("{bytes} bytes at {at} of the module's variables, which have {}", all.len());
        };
        found.iter().rev().fold(0, |value, &byte| value << 8 | u128::from(byte))
    }

    pub(super) fn store(&mut self, i: &Instruction, space: Space, bits: u32) {
        let count = self.sources(i).len() - 2;
        let word = |index: usize| u128::from(self.get(i, 2 + index)) & mask(bits);
        let value = (0..count).fold(0, |value, index| value | word(index) << (index as u32 * bits));
        let bytes = bits as usize / 8 * count;
        match found(space, self.address(i, 0)) {
            (Space::Shared, address) => store!(ops::st_shared, address as u32, bytes, value),
            (Space::Cluster, address) => store!(ops::st_cluster, address as u32, bytes, value),
            (Space::Local, address) => {
                let at = self.local_place(address as u32, bytes);
                for (place, byte) in self.local[at..at + bytes].iter_mut().zip(value.to_le_bytes()) {
                    *place = Some(byte);
                }
            }
            (_, CONSTANTS..PARAMETERS) => {
                panic!("a store to a variable of the module, which the machine only reads")
            }
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
        if self.results(i).len() > 1 {
            for index in 0..self.results(i).len() {
                let given = self.get(i, 2 + index);
                let word = Word { address: word.address + (index * word.bytes) as u64, ..word };
                let old =
                    ops::atom(MachineOp::Atom, word, orders, |old| updated(update, ty, [old, given, 0]));
                self.set(i, index, old);
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
}

/// What a read-modify-write leaves of `old`, with what is given. PTX ISA, "atom".
pub(super) fn updated(update: Update, ty: Type, [old, given, other]: [u64; 3]) -> u64 {
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

//! Device memory: allocations on the strict machine.

use std::collections::BTreeMap;

use fused_lora_simt::{Launch, Machine, Schedule, Stats};

use crate::{
    code::{Code, Handle, Outcome},
    fault::{FREED, Fault},
};

/// Most bytes of one allocation: the machine gives each 4 GiB of addresses.
const MAX_ALLOCATION: u64 = (1 << 32) - 1;

struct Allocation {
    number: usize,
    bytes: u64,
    context: Handle,
    device: u32,
}

/// Allocations by address. They start poisoned and are exact: the byte after the last is nobody's. Addresses
/// are multiples of 4 GiB and are never given twice.
#[derive(Default)]
pub(crate) struct Memory {
    machine: Machine,
    live: BTreeMap<u64, Allocation>,
    count: usize,
}

impl Memory {
    /// Allocates on `device` for `context`, within `limit` bytes of the device's.
    pub(crate) fn allocate(&mut self, bytes: u64, context: Handle, device: u32, limit: u64) -> Outcome<u64> {
        if bytes == 0 {
            return Err(Code::INVALID_VALUE);
        }
        let free = limit.saturating_sub(self.used(device));
        if bytes > free.min(MAX_ALLOCATION) {
            return Err(Code::OUT_OF_MEMORY);
        }
        let length = usize::try_from(bytes).map_err(|_| Code::OUT_OF_MEMORY)?;
        let address = self.machine.buffer(length);
        let number = self.count;
        self.count += 1;
        self.machine.name(address, format!("allocation {number} of {bytes} bytes"));
        self.live.insert(address, Allocation { number, bytes, context, device });
        Ok(address)
    }

    /// Frees the allocation that starts at `address`.
    pub(crate) fn free(&mut self, address: u64) -> Outcome {
        let Allocation { number, bytes, .. } = self.live.remove(&address).ok_or(Code::INVALID_VALUE)?;
        // The machine keeps the region, so that no other one is mistaken for it: what reads it reads poison,
        // and the name says why.
        self.machine.name(address, format!("{FREED} {number} of {bytes} bytes"));
        self.machine.poison(address, bytes as usize).map_err(|_| Code::UNKNOWN)
    }

    /// Frees what belongs to a context.
    pub(crate) fn free_of(&mut self, context: Handle) {
        let addresses: Vec<u64> =
            self.live.iter().filter(|(_, a)| a.context == context).map(|(&address, _)| address).collect();
        for address in addresses {
            // Cannot fail: it is live.
            let _ = self.free(address);
        }
    }

    /// Bytes that are allocated on a device.
    pub(crate) fn used(&self, device: u32) -> u64 {
        self.live.values().filter(|a| a.device == device).map(|a| a.bytes).sum()
    }

    /// Base and size of the allocation that an address lies in.
    pub(crate) fn range(&self, address: u64) -> Option<(u64, u64)> {
        let (&base, allocation) = self.live.range(..=address).next_back()?;
        (address - base < allocation.bytes).then_some((base, allocation.bytes))
    }

    /// Whether bytes lie in one allocation. No bytes lie anywhere.
    pub(crate) fn holds(&self, address: u64, bytes: u64) -> bool {
        bytes == 0 || self.range(address).is_some_and(|(base, size)| bytes <= size - (address - base))
    }

    /// Writes bytes.
    pub(crate) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        self.check("a write", address, bytes.len())?;
        if !bytes.is_empty() {
            self.machine.write(address, bytes)?;
        }
        Ok(())
    }

    /// Reads bytes, each of which somebody must have written.
    pub(crate) fn read(&self, address: u64, bytes: usize) -> Result<Vec<u8>, Fault> {
        self.check("a read", address, bytes)?;
        if bytes == 0 {
            return Ok(Vec::new());
        }
        Ok(self.machine.read(address, bytes)?)
    }

    /// Runs launches beside each other.
    pub(crate) fn run(&mut self, launches: &[Launch], schedule: &Schedule) -> Result<Stats, Fault> {
        Ok(self.machine.run(launches, schedule)?)
    }

    fn check(&self, what: &str, address: u64, bytes: usize) -> Result<(), Fault> {
        if self.holds(address, bytes as u64) {
            return Ok(());
        }
        Err(Fault::illegal_address(format!(
            "{what} of {bytes} bytes at {address:#x} by the host, which lie in no allocation: freed, or out \
                of bounds"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allocations_are_exact_and_addresses_are_not_given_twice() {
        let mut memory = Memory::default();
        let first = memory.allocate(100, 1, 0, 1000).expect("fits");
        let second = memory.allocate(900, 1, 0, 1000).expect("fits");
        assert_eq!(first % 256, 0);
        assert_eq!(memory.range(first + 99), Some((first, 100)));
        assert_eq!(memory.range(first + 100), None);
        assert!(memory.holds(second + 800, 100) && !memory.holds(second + 800, 101));
        assert_eq!(memory.allocate(1, 1, 0, 1000), Err(Code::OUT_OF_MEMORY));
        assert!(memory.allocate(1, 1, 1, 1000).is_ok(), "another device");

        memory.free(first).expect("live");
        assert_eq!(memory.free(first), Err(Code::INVALID_VALUE));
        assert_eq!(memory.used(0), 900);
        let third = memory.allocate(100, 1, 0, 1000).expect("fits again");
        assert_ne!(third, first);
        assert_eq!(memory.read(first, 1).expect_err("freed").code, Code::ILLEGAL_ADDRESS);
    }

    #[test]
    fn only_what_was_written_can_be_read() {
        let mut memory = Memory::default();
        let address = memory.allocate(8, 1, 0, 8).expect("fits");
        memory.write(address + 2, &[1, 2, 3]).expect("in bounds");
        assert_eq!(memory.read(address + 2, 3).expect("written"), [1, 2, 3]);
        let fault = memory.read(address + 2, 4).expect_err("poison");
        assert_eq!(fault.code, Code::LAUNCH_FAILED);
        assert!(fault.text.contains("allocation 0 of 8 bytes + 0x5"), "{}", fault.text);
        assert_eq!(
            memory.write(address + 6, &[0; 3]).expect_err("out of bounds").code,
            Code::ILLEGAL_ADDRESS
        );
    }
}

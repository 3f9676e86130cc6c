//! What this machine could do at best, timed in the same rounds: multiply-adds of the kind that the kernels
//! of an element type are made of, and bytes read from memory.

use fused_lora::DType;
use fused_lora::cpu::Simd;

use crate::method::{Call, Method, Probe, Provider, Task, Work};
use memory::Memory;
use peak::{MultiplyAdd, Peak};

mod memory;
mod peak;

/// The probes of a machine that computes in one element type.
pub struct Probes {
    multiply_add: MultiplyAdd,
    memory: Memory,
}

impl Probes {
    /// For what a SIMD level computes in a type, on a machine that has the level, and for a last-level cache
    /// of so many bytes.
    pub fn new(simd: Simd, dtype: DType, last_level_cache: usize) -> Probes {
        Probes { multiply_add: MultiplyAdd::of(simd, dtype), memory: Memory::new(last_level_cache) }
    }

    /// The two probes beside calls of so many operations.
    pub fn methods(&self, flops: f64) -> [Method; 2] {
        let method = |probe, name, work| {
            let method = Method::new(name, 0, Task::Probe(probe), Provider::Library(0));
            Method { ids: Vec::new(), work, ..method }
        };
        let peak = Work { flops: Peak::new(self.multiply_add, flops).flops(), bytes: 0.0 };
        let bandwidth = Work { flops: 0.0, bytes: memory::READ as f64 };
        [method(Probe::Peak, "peak", peak), method(Probe::Bandwidth, "read-bandwidth", bandwidth)]
    }

    /// A probe beside calls of so many operations, ready.
    pub fn ready(&self, probe: Probe, flops: f64) -> Box<dyn Call> {
        match probe {
            Probe::Peak => Box::new(Peak::new(self.multiply_add, flops)),
            Probe::Bandwidth => Box::new(self.memory.clone()),
        }
    }
}

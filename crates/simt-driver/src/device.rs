//! What the devices say of themselves: figures of real ones, but for their number of multiprocessors, memory and
//! cache, which are small so that tests are quick.

use fused_lora_kernels::table::Kernel;

use crate::{
    code::{Code, Outcome},
    config::{Config, SHARED_WITHOUT_OPT_IN},
};

/// What the hardware keeps of a CTA's shared memory for itself, from compute capability 8.0 on.
const RESERVED_SHARED: u32 = 1024;
/// Registers are given to warps in units of so many.
const REGISTER_GRANULE: u32 = 256;
const WARP: u32 = 32;

/// Limits of a compute capability (CUDA C++ programming guide, *Technical Specifications per Compute Capability*).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Device {
    pub(crate) capability: (u32, u32),
    pub(crate) multiprocessors: u32,
    pub(crate) memory: u64,
    pub(crate) shared_per_multiprocessor: u32,
    /// The most dynamic shared memory of a CTA, for a function that asked for it.
    pub(crate) shared_opt_in: u32,
    pub(crate) threads_per_multiprocessor: u32,
    pub(crate) ctas_per_multiprocessor: u32,
    pub(crate) registers: u32,
    reserved_shared: u32,
}

impl Device {
    pub(crate) fn new(config: &Config) -> Self {
        let kib = 1024;
        let (shared, threads, ctas) = match config.capability {
            (0..=7, _) => (64 * kib, 1024, 16),
            (8, 0) => (164 * kib, 2048, 32),
            (8, 9) => (100 * kib, 1536, 24),
            (8, _) => (100 * kib, 1536, 16),
            (12.., _) => (100 * kib, 1536, 24),
            _ => (228 * kib, 2048, 32),
        };
        let reserved_shared = if config.capability.0 < 8 { 0 } else { RESERVED_SHARED };
        Self {
            capability: config.capability,
            multiprocessors: config.multiprocessors,
            memory: config.memory,
            shared_per_multiprocessor: shared,
            shared_opt_in: config.shared.unwrap_or(shared - reserved_shared),
            threads_per_multiprocessor: threads,
            ctas_per_multiprocessor: ctas,
            registers: 65_536,
            reserved_shared,
        }
    }

    /// Of all devices. No GPU is called so.
    pub(crate) const NAME: &str = "Strict machine (no GPU)";

    pub(crate) fn uuid(&self, ordinal: u32) -> [u8; 16] {
        let mut uuid = *b"fused-lora simt\0";
        uuid[15] = ordinal as u8;
        uuid
    }

    /// `cuDeviceGetAttribute`, by the number of the attribute.
    pub(crate) fn attribute(&self, attribute: u32, ordinal: u32) -> Outcome<u32> {
        let (major, minor) = self.capability;
        Ok(match attribute {
            1..=3 => 1024,                    // MAX_THREADS_PER_BLOCK, MAX_BLOCK_DIM_X, Y
            4 => 64,                          // MAX_BLOCK_DIM_Z
            5 => i32::MAX as u32,             // MAX_GRID_DIM_X
            6 | 7 => 65_535,                  // MAX_GRID_DIM_Y, Z
            8 => SHARED_WITHOUT_OPT_IN,       // MAX_SHARED_MEMORY_PER_BLOCK
            9 => 65_536,                      // TOTAL_CONSTANT_MEMORY
            10 => WARP,                       // WARP_SIZE
            11 => i32::MAX as u32,            // MAX_PITCH
            12 => self.registers,             // MAX_REGISTERS_PER_BLOCK
            13 => 1_410_000,                  // CLOCK_RATE, kHz
            14 => 512,                        // TEXTURE_ALIGNMENT
            15 | 31 | 41 | 78 | 79 | 80 => 1, // GPU_OVERLAP, CONCURRENT_KERNELS, UNIFIED_ADDRESSING, priorities, L1
            16 => self.multiprocessors,       // MULTIPROCESSOR_COUNT
            17 | 18 | 20 => 0,                // KERNEL_EXEC_TIMEOUT, INTEGRATED, COMPUTE_MODE
            19 | 83 => 0,                     // CAN_MAP_HOST_MEMORY, MANAGED_MEMORY: not here
            30 => 512,                        // SURFACE_ALIGNMENT
            32 | 35 | 50 => 0,                // ECC_ENABLED, TCC_DRIVER, PCI_DOMAIN_ID
            33 => ordinal + 1,                // PCI_BUS_ID
            34 => 0,                          // PCI_DEVICE_ID
            36 => 1_215_000,                  // MEMORY_CLOCK_RATE, kHz
            37 => 5120,                       // GLOBAL_MEMORY_BUS_WIDTH, bits
            38 => 1 << 20,                    // L2_CACHE_SIZE
            39 => self.threads_per_multiprocessor,
            40 => 2,  // ASYNC_ENGINE_COUNT
            51 => 32, // TEXTURE_PITCH_ALIGNMENT
            75 => major,
            76 => minor,
            81 => self.shared_per_multiprocessor,
            82 => self.registers,
            95 | 96 | 115 => 0, // cooperative launches, memory pools: not here
            97 => self.shared_opt_in,
            99 => 1, // HOST_REGISTER_SUPPORTED
            106 => self.ctas_per_multiprocessor,
            108 | 109 => 0, // persisting L2, access policy windows: not here
            111 => self.reserved_shared,
            _ => {
                eprintln!("fused-lora-simt-driver: no device attribute {attribute}");
                return Err(Code::INVALID_VALUE);
            }
        })
    }

    /// How many CTAs of a kernel are resident on a multiprocessor at once.
    pub(crate) fn occupancy(&self, kernel: &Kernel, threads: u32, shared_bytes: u32) -> u32 {
        if threads == 0 || threads > 1024 || shared_bytes > self.shared_opt_in {
            return 0;
        }
        let warps = threads.div_ceil(WARP);
        let registers = warps * (kernel.max_registers * WARP).next_multiple_of(REGISTER_GRANULE);
        let shared = shared_bytes.next_multiple_of(128) + self.reserved_shared;
        self.ctas_per_multiprocessor
            .min(self.threads_per_multiprocessor / (warps * WARP))
            .min(self.registers / registers)
            .min(self.shared_per_multiprocessor.checked_div(shared).unwrap_or(u32::MAX))
    }

    /// The newest PTX ISA that a driver compiles (PTX ISA manual, *Release Notes*), 10 times the version.
    pub(crate) fn newest_ptx(driver_version: u32) -> u32 {
        match (driver_version / 1000, driver_version % 1000 / 10) {
            (11, minor) => 70 + minor,
            (12, minor @ 0..=5) => 80 + minor,
            (12, minor) => 79 + minor,
            (13, minor) => 90 + minor,
            (0..=10, _) => 65,
            _ => u32::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fused_lora_kernels::table::KERNELS;

    fn device(capability: (u32, u32)) -> Device {
        Device::new(&Config { capability, ..Config::default() })
    }

    #[test]
    fn shared_memory_is_that_of_the_programming_guide() {
        for (capability, kib) in [
            ((7, 5), 64),
            ((8, 0), 163),
            ((8, 6), 99),
            ((8, 9), 99),
            ((9, 0), 227),
            ((10, 0), 227),
            ((12, 0), 99),
        ] {
            assert_eq!(device(capability).shared_opt_in, kib * 1024, "{capability:?}");
        }
    }

    #[test]
    fn occupancy_is_bounded_by_registers_threads_and_shared_memory() {
        let kernel = Kernel { max_registers: 255, ..KERNELS[0] };
        let device = device((8, 0));
        assert_eq!(device.occupancy(&kernel, 256, 0), 1, "256 · 256 registers");
        assert_eq!(device.occupancy(&kernel, 128, 60 * 1024), 2, "registers and shared memory");
        assert_eq!(device.occupancy(&Kernel { max_registers: 32, ..kernel }, 1024, 0), 2, "threads");
        assert_eq!(device.occupancy(&Kernel { max_registers: 32, ..kernel }, 32, 0), 32, "CTAs");
        assert_eq!(device.occupancy(&kernel, 128, 164 * 1024), 0, "beyond the limit");
    }
}

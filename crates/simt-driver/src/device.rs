//! What the devices say of themselves: figures of real ones, but for their number of multiprocessors, memory
//! and cache, which are small so that tests are quick.

use crate::{
    code::{Code, Outcome},
    config::{Config, SHARED_WITHOUT_OPT_IN},
};

/// What the hardware keeps of a CTA's shared memory for itself, from compute capability 8.0 on.
const RESERVED_SHARED: u32 = 1024;
/// Registers are given to warps in units of so many.
const REGISTER_GRANULE: u32 = 256;
const WARP: u32 = 32;
/// Most CTAs of a cluster that every device with clusters takes.
pub(crate) const PORTABLE_CLUSTER: u32 = 8;

/// What a CTA takes of a multiprocessor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footprint {
    pub(crate) threads: u32,
    /// Of a lane.
    pub(crate) registers: u32,
    /// Dynamic shared memory.
    pub(crate) shared_bytes: u32,
}

/// Limits of a compute capability (CUDA C++ programming guide, *Technical Specifications per Compute
/// Capability*).
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
        let few = if config.capability.0 >= 9 { PORTABLE_CLUSTER } else { 4 };
        let reserved_shared = if config.capability.0 < 8 { 0 } else { RESERVED_SHARED };
        Self {
            capability: config.capability,
            multiprocessors: config.multiprocessors.unwrap_or(few),
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
            15 | 31 | 41 | 78 | 79 | 80 => 1, // GPU_OVERLAP, CONCURRENT_KERNELS, UNIFIED_ADDRESSING, L1
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
            120 | 127 => u32::from(self.has_clusters()), // CLUSTER_LAUNCH, TENSOR_MAP_ACCESS_SUPPORTED
            _ => {
                eprintln!("fused-lora-simt-driver: no device attribute {attribute}");
                return Err(Code::INVALID_VALUE);
            }
        })
    }

    /// Whether there are clusters, tensor maps, and programmatic dependent launches.
    pub(crate) fn has_clusters(&self) -> bool {
        self.capability.0 >= 9
    }

    /// How many clusters of so many CTAs are resident on the device at once. On a GPU each lies within one
    /// group of multiprocessors, so that some may be left over; here all are one group.
    pub(crate) fn active_clusters(&self, footprint: Footprint, ctas: u32) -> u32 {
        self.multiprocessors * self.occupancy(footprint) / ctas
    }

    /// How many CTAs are resident on a multiprocessor at once.
    pub(crate) fn occupancy(&self, footprint: Footprint) -> u32 {
        let Footprint { threads, registers, shared_bytes } = footprint;
        if threads == 0 || threads > 1024 || shared_bytes > self.shared_opt_in {
            return 0;
        }
        let warps = threads.div_ceil(WARP);
        let registers = warps * (registers * WARP).next_multiple_of(REGISTER_GRANULE);
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

    const fn footprint(threads: u32, registers: u32, shared_bytes: u32) -> Footprint {
        Footprint { threads, registers, shared_bytes }
    }

    #[test]
    fn occupancy_is_bounded_by_registers_threads_and_shared_memory() {
        let device = device((8, 0));
        let occupancy = |threads, registers, shared| device.occupancy(footprint(threads, registers, shared));
        assert_eq!(occupancy(256, 255, 0), 1, "256 · 256 registers");
        assert_eq!(occupancy(128, 255, 60 * 1024), 2, "registers and shared memory");
        assert_eq!(occupancy(1024, 32, 0), 2, "threads");
        assert_eq!(occupancy(32, 32, 0), 32, "CTAs");
        assert_eq!(occupancy(128, 255, 164 * 1024), 0, "beyond the limit");
    }

    #[test]
    fn clusters_are_resident_as_a_whole() {
        let clusters = |multiprocessors, shared, ctas| {
            let config =
                Config { capability: (9, 0), multiprocessors: Some(multiprocessors), ..Config::default() };
            Device::new(&config).active_clusters(footprint(384, 168, shared), ctas)
        };
        let (one, two) = (200 * 1024, 100 * 1024);
        assert_eq!(clusters(4, one, 8), 0, "too few multiprocessors");
        assert_eq!(clusters(8, one, 8), 1);
        assert_eq!(clusters(15, one, 8), 1);
        assert_eq!(clusters(132, one, 8), 16, "the last 4 multiprocessors hold none");
        assert_eq!(clusters(132, one, 4), 33);
        assert_eq!(clusters(132, one, 1), 132);
        assert_eq!(clusters(4, two, 8), 0, "registers for one CTA, if not for its shared memory");
        assert_eq!(clusters(8, 228 * 1024, 1), 0, "beyond the limit");
    }

    /// Enough for the largest cluster of kernels of which a multiprocessor holds one CTA.
    #[test]
    fn multiprocessors_are_few() {
        assert_eq!(device((8, 0)).multiprocessors, 4);
        assert_eq!(device((9, 0)).multiprocessors, 8);
        let config = Config { capability: (9, 0), multiprocessors: Some(3), ..Config::default() };
        assert_eq!(Device::new(&config).multiprocessors, 3);
    }
}

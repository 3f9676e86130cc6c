//! What the numbers were measured on, as records name it.

use fused_lora::Granule;
use fused_lora::cpu::Simd;

use crate::host::Host;

/// A processor or a GPU.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    /// Its name.
    pub device: String,
    /// Threads, on a CPU.
    pub threads: Option<usize>,
    /// SIMD level, on a CPU; else empty.
    pub simd: String,
    /// The CUDA version of a GPU's driver; else empty.
    pub driver: String,
    /// Clock, where it can be read.
    pub clock_mhz: Option<f64>,
    /// All last-level caches together, in bytes.
    pub last_level_cache: usize,
    /// What this library's kernels round a rank up to.
    pub granule: Granule,
}

impl Machine {
    /// This host's processor, used with a SIMD level.
    #[must_use]
    pub fn cpu(host: Host, simd: Simd) -> Machine {
        Machine {
            device: host.device,
            threads: Some(host.threads),
            simd: simd.to_string(),
            driver: String::new(),
            clock_mhz: host.clock_mhz,
            last_level_cache: host.last_level_cache,
            granule: simd.granule(),
        }
    }
}

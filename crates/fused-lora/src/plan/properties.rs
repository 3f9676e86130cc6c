use std::fmt;

use fused_lora_kernels::table::Target;

/// The first CUDA version whose driver loads the kernels for compute capability 9.0, and has the functions
/// that they are launched with: tensor maps came with 12.0.
const FIRST_SM90A_DRIVER: (u32, u32) = (12, 0);
/// The first one that captures programmatic launches in graphs. For simplicity older ones get none at all.
const FIRST_PROGRAMMATIC_DRIVER: (u32, u32) = (12, 3);

/// The properties of a device, as the driver reports them.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Properties {
    /// The device's number, from 0 on, among the devices that the driver shows this process.
    pub ordinal: u32,
    /// The device's name, for example `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// The device's UUID, which does not depend on its number.
    pub uuid: [u8; 16],
    /// Major and minor compute capability.
    pub compute_capability: (u32, u32),
    /// Streaming multiprocessors (SMs).
    pub multiprocessors: u32,
    /// The most shared memory of a CTA, in bytes, if its kernel requests it.
    pub shared_bytes_per_cta: u32,
    /// Shared memory of an SM, in bytes.
    pub shared_bytes_per_sm: u32,
    /// 32-bit registers of an SM.
    pub registers_per_sm: u32,
    /// Threads that an SM holds.
    pub threads_per_sm: u32,
    /// Device memory, in bytes.
    pub memory_bytes: u64,
    /// L2 cache, in bytes.
    pub l2_bytes: u32,
    /// Peak clock of the SMs, in kHz.
    pub clock_khz: u32,
    /// Peak clock of the memory, in kHz.
    pub memory_clock_khz: u32,
    /// Width of the memory's bus, in bits.
    pub memory_bus_bits: u32,
    /// The driver's CUDA version, major and minor.
    pub driver_version: (u32, u32),
}

impl Properties {
    /// Peak bandwidth of the device memory, in bytes a second: two transfers a clock. 0 if the driver does
    /// not report it.
    pub fn memory_bandwidth(&self) -> f64 {
        2.0 * 1e3 * f64::from(self.memory_clock_khz) * f64::from(self.memory_bus_bits) / 8.0
    }

    /// The target of the newest kernels that suit the device: compute capability 9.0, if the device has it
    /// and the driver is for CUDA 12.0 or later. [`Device::target`](crate::cuda::Device::target) says whether
    /// they could be loaded.
    pub fn target(&self) -> Target {
        let hopper = self.compute_capability == (9, 0) && self.driver_version >= FIRST_SM90A_DRIVER;
        if hopper { Target::Sm90a } else { Target::Sm80 }
    }

    /// Whether kernels for compute capability 9.0 are launched *programmatically*: before the kernel in front
    /// of them has ended; they wait for its end themselves. This needs a driver for CUDA 12.3 or later, the
    /// first to capture such launches in graphs;
    /// [`Stream::with_programmatic_launches`](crate::cuda::Stream::with_programmatic_launches) turns it off.
    pub fn launches_programmatically(&self) -> bool {
        self.target() == Target::Sm90a && self.driver_version >= FIRST_PROGRAMMATIC_DRIVER
    }

    /// The UUID as `nvidia-smi -L` prints it: `GPU-` and 32 hexadecimal digits in five groups.
    pub fn uuid_text(&self) -> String {
        let mut text = "GPU".to_owned();
        for (i, byte) in self.uuid.iter().enumerate() {
            if [0, 4, 6, 8, 10].contains(&i) {
                text.push('-');
            }
            text += &format!("{byte:02x}");
        }
        text
    }
}

/// One line.
impl fmt::Display for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((major, minor), (cuda, cuda_minor)) = (self.compute_capability, self.driver_version);
        write!(
            f,
            "{}, compute capability {major}.{minor}, {} SMs, {} MiB, driver for CUDA {cuda}.{cuda_minor}",
            self.name,
            self.multiprocessors,
            self.memory_bytes >> 20,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Gpu;

    fn h100() -> Properties {
        Gpu::from_data_sheet("h100").unwrap().properties().clone()
    }

    #[test]
    fn bandwidth_and_identity_are_those_of_the_data_sheet_and_of_nvidia_smi() {
        let mut gpu = h100();
        assert_eq!(gpu.memory_bandwidth(), 3.35232e12);
        gpu.uuid = std::array::from_fn(|i| 0x10 * i as u8 + 1);
        assert_eq!(gpu.uuid_text(), "GPU-01112131-4151-6171-8191-a1b1c1d1e1f1");
    }

    #[test]
    fn what_is_launched_and_how_depends_on_capability_and_driver() {
        let of = |compute_capability, driver_version| {
            let gpu = Properties { compute_capability, driver_version, ..h100() };
            (gpu.target(), gpu.launches_programmatically())
        };
        assert_eq!(of((9, 0), (13, 0)), (Target::Sm90a, true));
        assert_eq!(of((9, 0), (12, 3)), (Target::Sm90a, true));
        assert_eq!(of((9, 0), (12, 2)), (Target::Sm90a, false));
        assert_eq!(of((9, 0), (12, 0)), (Target::Sm90a, false));
        assert_eq!(of((9, 0), (11, 8)), (Target::Sm80, false));
        // `sm_90a` runs on 9.0 alone.
        for capability in [(8, 0), (8, 9), (10, 0), (12, 0)] {
            assert_eq!(of(capability, (13, 0)), (Target::Sm80, false), "{capability:?}");
        }
    }
}

//! The backend that the settings ask for, found on this machine.

use fused_lora::cpu::Simd;

use crate::host::Host;
use crate::machine::Machine;
use crate::settings::{Backend, Settings};

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
use crate::cuda::Gpu;

/// What is measured on.
#[derive(Clone)]
pub enum Target {
    /// This host's processor.
    Cpu(Simd),
    /// One of its GPUs.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    Cuda(Gpu),
}

/// Why there is nothing to measure on.
#[derive(Debug, thiserror::Error)]
pub enum NoTarget {
    /// The SIMD level that is asked for does not exist, or not here.
    #[error(transparent)]
    Simd(#[from] fused_lora::Error),
    /// There is no such GPU, or nothing that drives it.
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    #[error("FUSED_LORA_BACKEND=cuda, FUSED_LORA_DEVICE={device}")]
    Gpu {
        /// The GPU's number.
        device: u32,
        /// What is missing.
        source: fused_lora::cuda::Error,
    },
    /// No GPU is known to be driven on this platform.
    #[error("FUSED_LORA_BACKEND=cuda needs Linux on x86-64 or aarch64")]
    Platform,
}

impl Target {
    /// Finds it. Of the backend `cpu`, nothing looks for a GPU.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn open(settings: &Settings) -> Result<Target, NoTarget> {
        match settings.backend {
            Backend::Cpu => Ok(Target::Cpu(Simd::detect()?)),
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Backend::Cuda => {
                let device = settings.device;
                Gpu::open(device).map(Target::Cuda).map_err(|source| NoTarget::Gpu { device, source })
            }
            #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
            Backend::Cuda => Err(NoTarget::Platform),
        }
    }

    /// What records say of it.
    #[must_use]
    pub fn machine(&self) -> Machine {
        match self {
            Target::Cpu(simd) => Machine::cpu(Host::detect(), *simd),
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Target::Cuda(gpu) => gpu.machine(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_cpu_is_named_with_its_level() {
        let target = Target::open(&Settings::default()).unwrap();
        let Target::Cpu(simd) = target else { panic!("the default is the CPU") };
        let machine = target.machine();
        assert_eq!((machine.simd.as_str(), machine.granule), (simd.name(), simd.granule()));
        assert!(machine.threads.is_some() && machine.driver.is_empty());
    }

    /// In a process of its own, which loads its driver once: this test again, told that it is the child.
    #[test]
    fn a_driver_that_is_not_there_is_named() {
        const CHILD: &str = "FUSED_LORA_BENCHES_TEST_CHILD";
        if std::env::var_os(CHILD).is_some() {
            let settings = Settings { backend: Backend::Cuda, device: 7, ..Settings::default() };
            let error = Target::open(&settings).err().expect("no driver, no target");
            let text = format!("{:#}", anyhow::Error::new(error));
            if cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
                let parts = ["FUSED_LORA_BACKEND=cuda, FUSED_LORA_DEVICE=7: ", "/nowhere/libcuda.so.1"];
                assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            }
            assert!(Target::open(&Settings::default()).is_ok(), "the CPU needs none");
            return;
        }
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "target::tests::a_driver_that_is_not_there_is_named"])
            .envs([("FUSED_LORA_LIBCUDA", "/nowhere/libcuda.so.1"), (CHILD, "1")])
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && stdout.contains("1 passed"), "{stdout}");
    }
}

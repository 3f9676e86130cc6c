//! The backend that the settings ask for, found on this machine.

use anyhow::Context as _;
use fused_lora::DType;
use fused_lora::cpu::Simd;

use crate::machine::Machine;
use crate::settings::{Backend, Settings, Usage};

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

impl Target {
    /// Finds it. Of the backend `cpu`, nothing looks for a GPU. A SIMD level that does not exist, or not
    /// here, is a [`Usage`].
    pub fn open(settings: &Settings) -> anyhow::Result<Target> {
        match settings.backend {
            Backend::Cpu => Ok(Target::Cpu(Simd::detect().map_err(|error| Usage(error.to_string()))?)),
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Backend::Cuda => {
                let device = settings.device;
                let gpu = Gpu::open(device, settings.plan.is_some());
                gpu.map(Target::Cuda)
                    .with_context(|| format!("FUSED_LORA_BACKEND=cuda, FUSED_LORA_DEVICE={device}"))
            }
            #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
            Backend::Cuda => anyhow::bail!("FUSED_LORA_BACKEND=cuda needs Linux on x86-64 or aarch64"),
        }
    }

    /// What records say of it where it computes in that type.
    pub fn machine(&self, dtype: DType) -> Machine {
        match self {
            Target::Cpu(simd) => Machine::cpu(*simd, dtype),
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Target::Cuda(gpu) => gpu.machine(),
        }
    }

    /// Clock of a GPU as it was last seen under load, in MHz. A processor's is not read again.
    pub fn clock_mhz(&self) -> Option<f64> {
        match self {
            Target::Cpu(_) => None,
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Target::Cuda(gpu) => gpu.clock.mhz(),
        }
    }

    /// Something to say before anything is measured.
    pub fn preamble(&self) -> anyhow::Result<Option<String>> {
        match self {
            Target::Cpu(_) => Ok(None),
            #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
            Target::Cuda(gpu) => Ok(Some(gpu.overhead()?)),
        }
    }
}

/// Whether a target could not be opened because there is no driver or no GPU.
pub fn is_missing(error: &anyhow::Error) -> bool {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        use fused_lora::cuda::Error;
        matches!(error.downcast_ref(), Some(Error::NoDriver(_) | Error::NoDevice))
    }
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        let _ = error;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{CHILD, run_in_child};

    /// In a process of its own, which loads its driver once: this test again, told that it is the child.
    #[test]
    fn a_driver_that_is_not_there_is_named() {
        if std::env::var_os(CHILD).is_some() {
            let settings = Settings { backend: Backend::Cuda, device: 7, ..Settings::default() };
            let error = Target::open(&settings).err().expect("no driver, no target");
            assert!(is_missing(&error));
            let text = format!("{error:#}");
            if cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
                let parts = ["FUSED_LORA_BACKEND=cuda, FUSED_LORA_DEVICE=7: ", "/nowhere/libcuda.so.1"];
                assert!(parts.iter().all(|part| text.contains(part)), "{text}");
            }
            assert!(Target::open(&Settings::default()).is_ok(), "the CPU needs none");
            return;
        }
        let variables = [("FUSED_LORA_LIBCUDA", "/nowhere/libcuda.so.1"), (CHILD, "1")];
        run_in_child("target::tests::a_driver_that_is_not_there_is_named", &variables);
    }
}

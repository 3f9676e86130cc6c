//! The clock of a GPU's multiprocessors while they work: NVML, which comes with the driver.

use std::cell::Cell;
use std::ffi::OsStr;
use std::time::{Duration, Instant};

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::Clock as Domain;

/// The library's name without a version belongs to CUDA's development files, which need not be there.
const LIBRARY: &str = "libnvidia-ml.so.1";
/// The clock settles within a second; to ask for it at each call would only lengthen the run.
const PERIOD: Duration = Duration::from_millis(200);

/// A GPU's clock as it was last seen.
pub struct Clock {
    nvml: Option<Nvml>,
    /// As `nvidia-smi -L` prints it: NVML does not count devices as CUDA does.
    uuid: String,
    seen: Cell<Option<f64>>,
    asked: Cell<Option<Instant>>,
}

impl Clock {
    /// The clock of the GPU of that identity. Without NVML it is never seen.
    #[must_use]
    pub fn new(uuid: String) -> Clock {
        let nvml = Nvml::builder().lib_path(OsStr::new(LIBRARY)).init().ok();
        Clock { nvml, uuid, seen: Cell::new(None), asked: Cell::new(None) }
    }

    /// Reads it, unless that was done just now. To be called while the device works: an idle one slows down.
    pub fn sample(&self) {
        let Some(nvml) = &self.nvml else { return };
        if self.asked.get().is_some_and(|asked| asked.elapsed() < PERIOD) {
            return;
        }
        self.asked.set(Some(Instant::now()));
        let clock = nvml.device_by_uuid(self.uuid.as_str()).and_then(|device| device.clock_info(Domain::SM));
        if let Ok(mhz) = clock {
            self.seen.set(Some(f64::from(mhz)));
        }
    }

    /// As it was last seen, in MHz.
    #[must_use]
    pub fn mhz(&self) -> Option<f64> {
        self.seen.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_nvml_does_not_know_has_no_clock() {
        let clock = Clock::new("GPU-00000000-0000-0000-0000-000000000000".to_owned());
        clock.sample();
        assert_eq!(clock.mhz(), None);
    }
}

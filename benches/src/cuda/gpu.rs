//! The device, and what it says of itself.

use std::rc::Rc;

use fused_lora::Granule;
use fused_lora::cuda::{Device, Properties, Stream};

use super::clock::Clock;
use super::queue::Queue;
use crate::machine::Machine;

/// `mma.sync` m16n8k16 expands 16 columns of h at a time, and the shrink makes them in pairs of its eight.
const GRANULE: Granule = Granule { shrink_n: 16, expand_k: 16 };
/// Operations of an Ampere SM in a cycle, f16 with f32 sums. Later ones do up to twice as many.
const FLOPS_PER_CYCLE: f64 = 2048.0;

/// An open GPU, with the one stream that everything runs on. Clones share both.
#[derive(Clone)]
pub struct Gpu {
    /// The device.
    pub device: Device,
    /// Its stream.
    pub(super) queue: Rc<Queue>,
    /// Its clock.
    pub clock: Rc<Clock>,
    /// Whether some kernels are left out: a method that no kernel is left for is then skipped.
    pub(crate) leaves_out: bool,
}

impl Gpu {
    /// Opens the device of that number; `leaves_out` says whether `FUSED_LORA_PLAN` is set.
    pub fn open(ordinal: u32, leaves_out: bool) -> anyhow::Result<Gpu> {
        let device = Device::open(ordinal)?;
        let queue = Rc::new(Queue::new(&device)?);
        let clock = Rc::new(Clock::new(device.properties().uuid_text()));
        Ok(Gpu { device, queue, clock, leaves_out })
    }

    /// The stream, as the library takes it.
    pub fn stream(&self) -> &Stream {
        self.queue.stream()
    }

    /// What records say of it; its peak clock, until it is seen under load.
    pub fn machine(&self) -> Machine {
        let Properties { driver_version: (major, minor), clock_khz, l2_bytes, .. } =
            *self.device.properties();
        Machine {
            device: self.device.properties().name.clone(),
            threads: None,
            simd: String::new(),
            driver: format!("{major}.{minor}"),
            clock_mhz: Some(f64::from(clock_khz) / 1e3).filter(|&mhz| mhz > 0.0),
            last_level_cache: l2_bytes as usize,
            granule: GRANULE,
        }
    }

    /// About how many operations it can do in a second, of those that the kernels are made of.
    pub fn peak_flops(&self) -> f64 {
        let Properties { multiprocessors, clock_khz, .. } = *self.device.properties();
        f64::from(multiprocessors) * f64::from(clock_khz) * 1e3 * FLOPS_PER_CYCLE
    }
}

//! The device, what it says of itself, and the context and stream that everything runs on: these are made by
//! `cust` and handed to the library as a raw handle.

use std::rc::Rc;

use cust::context::{Context, CurrentContext};
use cust::event::Event;
use cust::stream::{Stream as HostStream, StreamFlags};
use cust::sys::CUstream;
use fused_lora::Granule;
use fused_lora::cuda::{Device, Properties, Stream};

use super::clock::Clock;
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

/// A stream of a device, in the device's primary context, which is the library's too.
pub(super) struct Queue {
    // Before what it is a handle of: fields are dropped in this order.
    stream: Stream,
    host: HostStream,
    _context: Context,
}

impl Queue {
    /// Makes the context current for this thread, which events and graphs need.
    pub(super) fn new(device: &Device) -> anyhow::Result<Queue> {
        let context = Context::new(cust::device::Device::get_device(device.ordinal())?)?;
        CurrentContext::set_current(&context)?;
        // `cust` makes streams that wait for the default stream, and that for them; nothing here uses that
        // one.
        let host = HostStream::new(StreamFlags::DEFAULT, None)?;
        // SAFETY: the stream is of the device's primary context, which `cust` retains, and `self` owns it
        // beside its handle.
        let stream = unsafe { Stream::from_raw(device, host.as_inner().cast()) };
        Ok(Queue { stream, host, _context: context })
    }

    /// As the library takes it.
    pub(super) fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Records the event behind what is in the stream now.
    pub(super) fn record(&self, event: &Event) -> anyhow::Result<()> {
        Ok(event.record(&self.host)?)
    }

    pub(super) fn raw(&self) -> CUstream {
        self.host.as_inner()
    }
}

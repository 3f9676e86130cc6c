//! The context and the stream that everything runs on, made by `cust` and handed to the library as a raw
//! handle.

use cust::context::{Context, CurrentContext};
use cust::event::Event;
use cust::stream::{Stream as HostStream, StreamFlags};
use cust::sys::CUstream;
use fused_lora::cuda::{Device, Stream};

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

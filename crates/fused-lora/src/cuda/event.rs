use super::{
    device::Device,
    driver::{self, types::CUevent},
    error::Error,
    stream::Stream,
};

/// A point in a stream's work, and the time at which the stream reached it.
#[derive(Debug)]
pub struct Event {
    device: Device,
    raw: CUevent,
}

impl Event {
    /// An event that has not been recorded.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn new(device: &Device) -> Result<Self, Error> {
        let _entered = device.enter()?;
        let mut raw = CUevent::NULL;
        // SAFETY: `raw` is writable.
        unsafe { driver::event_create(&mut raw, 0)? };
        Ok(Self { device: device.clone(), raw })
    }

    /// Records it after the work that is in the stream now.
    ///
    /// # Errors
    ///
    /// [`Error::OtherDevice`], [`Error::Driver`].
    pub fn record(&self, stream: &Stream) -> Result<(), Error> {
        self.device.require("the stream", stream.device().ordinal())?;
        let _entered = self.device.enter()?;
        // SAFETY: both are alive.
        unsafe { driver::event_record(self.raw, stream.raw()) }
    }

    /// Waits until the stream has reached it.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], also if a kernel has failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        let _entered = self.device.enter()?;
        // SAFETY: it is alive.
        unsafe { driver::event_synchronize(self.raw) }
    }

    /// Seconds from `start` to this event, to about half a microsecond. Both must have been reached.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`] if one of them was not recorded or has not been reached.
    pub fn seconds_since(&self, start: &Event) -> Result<f64, Error> {
        self.device.require("the start", start.device.ordinal())?;
        let _entered = self.device.enter()?;
        let mut milliseconds = 0f32;
        // SAFETY: both are alive, `milliseconds` is writable.
        unsafe { driver::event_elapsed_time(&mut milliseconds, start.raw, self.raw)? };
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if let Ok(_entered) = self.device.enter() {
            // SAFETY: created once, destroyed once. Nobody is there to hear of a failure.
            let _ = unsafe { driver::event_destroy(self.raw) };
        }
    }
}

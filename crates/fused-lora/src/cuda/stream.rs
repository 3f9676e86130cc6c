use std::{
    ffi::c_void,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    device::Device,
    driver::{self, types::CUstream},
    error::Error,
};

/// A queue of work on a device: its work runs in order, concurrently with the work of other streams.
#[derive(Debug)]
pub struct Stream {
    device: Device,
    raw: CUstream,
    identity: Identity,
    /// Whether launches may be programmatic.
    programmatic: bool,
}

/// Which stream it is. An address alone would not say: the driver uses them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Own(u64),
    Foreign(usize),
}

impl Stream {
    /// A new stream. It does not wait for the default stream, nor the default stream for it.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`].
    pub fn new(device: &Device) -> Result<Self, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let raw = device.create_stream()?;
        let identity = Identity::Own(NEXT.fetch_add(1, Ordering::Relaxed));
        Ok(Self { device: device.clone(), raw, identity, programmatic: true })
    }

    /// A stream that others own, such as a framework's `CUstream` or `cudaStream_t`; null is the default
    /// stream. Dropping this value does not destroy the stream.
    ///
    /// # Safety
    ///
    /// `raw` is a stream of the device's primary context, and exists as long as this value is used.
    pub unsafe fn from_raw(device: &Device, raw: *mut c_void) -> Self {
        let identity = Identity::Foreign(raw as usize);
        Self { device: device.clone(), raw: CUstream(raw), identity, programmatic: true }
    }

    /// Whether kernels for compute capability 9.0 may be launched programmatically here (*CUDA C++
    /// Programming Guide*, Programmatic Dependent Launch): they begin while the kernel before them in the
    /// stream still runs, do their set-up, and access no memory until it has ended. This shortens the gaps
    /// between the launches of consecutive layers. On by default where
    /// [the driver supports it](super::Properties::launches_programmatically); elsewhere this changes
    /// nothing.
    ///
    /// Turn it off for graphs that are edited or updated later by code that does not support such edges, and
    /// to measure its effect.
    #[must_use]
    pub fn with_programmatic_launches(mut self, allowed: bool) -> Self {
        self.programmatic = allowed;
        self
    }

    /// Waits until all its work is done.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], also if a kernel has failed.
    pub fn synchronize(&self) -> Result<(), Error> {
        let _entered = self.device.enter()?;
        // SAFETY: the stream is alive.
        unsafe { driver::stream_synchronize(self.raw) }
    }

    /// The driver's handle, a `CUstream`.
    pub fn as_raw(&self) -> *mut c_void {
        self.raw.0
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn raw(&self) -> CUstream {
        self.raw
    }

    /// Whether the next launch may be programmatic.
    pub(super) fn is_programmatic(&self) -> bool {
        self.programmatic && self.device.properties().launches_programmatically()
    }

    pub(super) fn identity(&self) -> Identity {
        self.identity
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let (Identity::Own(_), Ok(_entered)) = (self.identity, self.device.enter()) {
            // SAFETY: created once, destroyed once; what is queued still runs. Nobody is there to hear of a
            // failure.
            let _ = unsafe { driver::stream_destroy(self.raw) };
        }
    }
}

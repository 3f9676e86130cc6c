use std::ffi::c_void;

use half::f16;

use super::{
    device::Device,
    driver::{self, types::CUstream},
    error::Error,
    memory::Memory,
    stream::Stream,
};

/// Device memory that holds f16, freed when dropped.
///
/// While a kernel or a copy still writes to it, reading it gives unspecified f16 values, which is not
/// undefined behaviour: the host never dereferences device memory.
#[derive(Debug)]
pub struct Buffer {
    memory: Memory,
    len: usize,
}

impl Buffer {
    /// A copy of `values`.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Driver`].
    pub fn from_slice(device: &Device, values: &[f16]) -> Result<Self, Error> {
        Ok(Self { memory: Memory::from_slice(device, values)?, len: values.len() })
    }

    /// `len` zeros.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Driver`].
    pub fn zeroed(device: &Device, len: usize) -> Result<Self, Error> {
        let mut buffer = Self::uninitialised(device, len)?;
        buffer.memory.zero()?;
        Ok(buffer)
    }

    /// `len` NaNs, for tests: elements that no kernel writes stay visible.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfMemory`], [`Error::Driver`].
    pub fn poisoned(device: &Device, len: usize) -> Result<Self, Error> {
        let mut buffer = Self::uninitialised(device, len)?;
        buffer.memory.fill(f16::NAN.to_bits())?;
        Ok(buffer)
    }

    fn uninitialised(device: &Device, len: usize) -> Result<Self, Error> {
        // No device has usize::MAX bytes: what overflows is out of memory, too.
        let bytes = len.saturating_mul(size_of::<f16>());
        Ok(Self { memory: Memory::allocate(device, bytes)?, len })
    }

    /// Its length in elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device that it is on.
    pub fn device(&self) -> &Device {
        self.memory.device()
    }

    /// Its address on the device, a multiple of 256; 0 if it is empty.
    pub fn address(&self) -> u64 {
        self.memory.address()
    }

    /// Copies the content to the host. Waits for all work on the device; not allowed while a stream of the
    /// device is in capture.
    ///
    /// # Errors
    ///
    /// [`Error::Driver`], also if a kernel has failed.
    pub fn to_vec(&self) -> Result<Vec<f16>, Error> {
        let mut values = vec![f16::ZERO; self.len];
        self.device().synchronize()?;
        self.memory.read(&mut values)?;
        Ok(values)
    }

    /// Overwrites the content with `values`. Waits for all work on the device, and for the copy; not allowed
    /// while a stream of the device is in capture.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if `values` has another length, [`Error::Driver`].
    pub fn write(&mut self, values: &[f16]) -> Result<(), Error> {
        self.require_length(values.len())?;
        self.device().synchronize()?;
        self.memory.write(0, values)
    }

    /// Queues setting every element to `value` on the stream, and returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::OtherDevice`], [`Error::Driver`].
    pub fn fill(&mut self, value: f16, stream: &Stream) -> Result<(), Error> {
        // SAFETY: the allocation has `len` elements of two bytes.
        self.queue(stream, |stream| unsafe {
            driver::memset_d16_async(self.address(), value.to_bits(), self.len, stream)
        })
    }

    /// Queues a copy of the content of `from` on the stream, and returns at once.
    ///
    /// # Errors
    ///
    /// [`Error::Length`] if the two differ in length, [`Error::OtherDevice`], [`Error::Driver`].
    pub fn copy_from(&mut self, from: &Buffer, stream: &Stream) -> Result<(), Error> {
        self.require_length(from.len)?;
        self.device().require("the source", from.device().ordinal())?;
        // SAFETY: both allocations have that many bytes.
        self.queue(stream, |stream| unsafe {
            driver::memcpy_dtod_async(self.address(), from.address(), self.memory.bytes(), stream)
        })
    }

    /// As [`write`](Self::write), but queued on the stream without waiting. (The driver may still wait if the
    /// host memory is not page-locked.)
    ///
    /// # Errors
    ///
    /// [`Error::Length`], [`Error::OtherDevice`], [`Error::Driver`].
    ///
    /// # Safety
    ///
    /// `values` must stay alive and unchanged until the stream has executed the copy; if the copy is captured
    /// in a graph, as long as the graph is launched.
    pub unsafe fn write_async(&mut self, values: &[f16], stream: &Stream) -> Result<(), Error> {
        self.require_length(values.len())?;
        let (from, bytes) = (values.as_ptr().cast::<c_void>(), self.memory.bytes());
        // SAFETY: both have that many bytes; the source lives as the caller promises.
        self.queue(stream, |stream| unsafe { driver::memcpy_htod_async(self.address(), from, bytes, stream) })
    }

    /// Queues a copy of the content to `values` on the stream without waiting. (The driver may still wait if
    /// the host memory is not page-locked.)
    ///
    /// # Errors
    ///
    /// [`Error::Length`], [`Error::OtherDevice`], [`Error::Driver`].
    ///
    /// # Safety
    ///
    /// `values` must stay alive, and must not be read or written, until the stream has executed the copy; if
    /// the copy is captured in a graph, as long as the graph is launched.
    pub unsafe fn read_async(&self, values: &mut [f16], stream: &Stream) -> Result<(), Error> {
        if values.len() != self.len {
            return Err(Error::Length { expected: values.len(), found: self.len });
        }
        let (to, bytes) = (values.as_mut_ptr().cast::<c_void>(), self.memory.bytes());
        // SAFETY: both have that many bytes; the target lives as the caller promises.
        self.queue(stream, |stream| unsafe { driver::memcpy_dtoh_async(to, self.address(), bytes, stream) })
    }

    /// Puts something into a stream of its device. Without elements there is nothing to put.
    fn queue(&self, stream: &Stream, queue: impl FnOnce(CUstream) -> Result<(), Error>) -> Result<(), Error> {
        self.device().require("the stream", stream.device().ordinal())?;
        if self.is_empty() {
            return Ok(());
        }
        let _entered = self.device().enter()?;
        queue(stream.raw())
    }

    fn require_length(&self, found: usize) -> Result<(), Error> {
        if self.len == found { Ok(()) } else { Err(Error::Length { expected: self.len, found }) }
    }
}

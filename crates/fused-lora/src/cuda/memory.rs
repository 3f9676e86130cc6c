//! Device memory as bytes.

use std::ffi::c_void;

use fused_lora_kernels::params::{Adapter, RowTile, Segment};

use super::{
    device::Device,
    driver::{
        self,
        structures::CopyRows,
        types::{CUstream, result},
    },
    error::Error,
};

/// A type without padding for which every byte pattern is valid.
///
/// # Safety
/// The type has no padding, and every byte pattern is a valid value.
pub(super) unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: a transparent u16.
unsafe impl Plain for half::f16 {}
// SAFETY: `repr(C)`, numbers only; their sizes add up to the structure's.
unsafe impl Plain for Segment {}
// SAFETY: as above.
unsafe impl Plain for RowTile {}
// SAFETY: as above.
unsafe impl Plain for Adapter {}
const _: () =
    assert!(size_of::<Segment>() == 4 * 4 && size_of::<RowTile>() == 2 * 4 && size_of::<Adapter>() == 8 * 4);

/// An allocation, freed when dropped. (`cuMemFree` waits for the work on the device that may still use it.)
#[derive(Debug)]
pub(super) struct Memory {
    device: Device,
    /// 0 if there are no bytes. A multiple of 256 otherwise: the driver's allocations are.
    address: u64,
    bytes: usize,
}

/// Where rows lie in memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    /// Of the first row.
    pub(super) offset: usize,
    /// From row to row.
    pub(super) pitch: usize,
}

impl Memory {
    /// Not initialised.
    pub(super) fn allocate(device: &Device, bytes: usize) -> Result<Self, Error> {
        let mut address = 0;
        if bytes > 0 {
            let _entered = device.enter()?;
            // SAFETY: `address` is writable.
            let allocated = unsafe { driver::mem_alloc(&mut address, bytes) };
            if let Err(Error::Driver { code: result::OUT_OF_MEMORY, .. }) = allocated {
                return Err(Error::OutOfMemory { bytes, free: device.free_memory().unwrap_or(0) });
            }
            allocated?;
        }
        Ok(Self { device: device.clone(), address, bytes })
    }

    /// A copy of `values`.
    pub(super) fn from_slice<T: Plain>(device: &Device, values: &[T]) -> Result<Self, Error> {
        let mut memory = Self::allocate(device, size_of_val(values))?;
        memory.write(0, values)?;
        Ok(memory)
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    pub(super) fn address(&self) -> u64 {
        self.address
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Copies `values` to `offset` bytes from the start, and waits for the copy, but for no other work on the
    /// device.
    ///
    /// # Panics
    ///
    /// If that is not within the allocation: the caller's mistake.
    pub(super) fn write<T: Plain>(&mut self, offset: usize, values: &[T]) -> Result<(), Error> {
        let bytes = size_of_val(values);
        assert!(
            offset <= self.bytes && bytes <= self.bytes - offset,
            "{bytes} bytes at {offset} of {}",
            self.bytes
        );
        let from = values.as_ptr().cast::<c_void>();
        // SAFETY: source and target have `bytes`, and the source is borrowed until the copy is done.
        self.transfer(|stream| unsafe {
            driver::memcpy_htod_async(self.address + offset as u64, from, bytes, stream)
        })
    }

    /// Copies all of it to `values`, of the same size, and waits for the copy, but for no other work on the
    /// device.
    pub(super) fn read<T: Plain>(&self, values: &mut [T]) -> Result<(), Error> {
        assert_eq!(size_of_val(values), self.bytes);
        let to = values.as_mut_ptr().cast::<c_void>();
        // SAFETY: source and target have the same size, any bytes are a T, and the target is borrowed until
        // the copy is done.
        self.transfer(|stream| unsafe { driver::memcpy_dtoh_async(to, self.address, self.bytes, stream) })
    }

    /// Copies `rows` rows of `bytes` bytes from another allocation on the device, and waits for the copy, but
    /// for no other work on the device. Nobody else uses what is written until then.
    ///
    /// # Panics
    ///
    /// If the rows overlap or are not within the allocations: the caller's mistake.
    pub(super) fn copy_rows(
        &self,
        to: Rows,
        from: &Memory,
        from_rows: Rows,
        [rows, bytes]: [usize; 2],
    ) -> Result<(), Error> {
        if rows == 0 || bytes == 0 {
            return Ok(());
        }
        let side = |memory: &Self, Rows { offset, pitch }: Rows| {
            let end =
                pitch.checked_mul(rows - 1).and_then(|last| last.checked_add(offset)?.checked_add(bytes));
            let inside = bytes <= pitch && end.is_some_and(|end| end <= memory.bytes);
            assert!(inside, "{rows} rows of {bytes} bytes, {pitch} apart, at {offset} of {}", memory.bytes);
            (memory.address + offset as u64, pitch)
        };
        let copy = CopyRows::on_device(side(from, from_rows), side(self, to), rows, bytes);
        // SAFETY: both allocations have those rows, and live until the copy is done.
        self.transfer(|stream| unsafe { driver::memcpy_2d_async(&copy, stream) })
    }

    /// Sets every byte to zero, and waits for that, but for no other work on the device.
    pub(super) fn zero(&mut self) -> Result<(), Error> {
        // SAFETY: the allocation has so many bytes.
        self.transfer(|stream| unsafe { driver::memset_d8_async(self.address, 0, self.bytes, stream) })
    }

    /// Sets every two bytes to `value`, and waits for that, but for no other work on the device.
    pub(super) fn fill(&mut self, value: u16) -> Result<(), Error> {
        // SAFETY: the allocation has so many bytes.
        self.transfer(|stream| unsafe {
            driver::memset_d16_async(self.address, value, self.bytes / 2, stream)
        })
    }

    /// Puts something into the device's stream for transfers and waits for it. Without memory there is
    /// nothing to put.
    fn transfer(&self, queue: impl FnOnce(CUstream) -> Result<(), Error>) -> Result<(), Error> {
        if self.bytes == 0 {
            return Ok(());
        }
        let _entered = self.device.enter()?;
        let stream = self.device.transfers();
        queue(stream)?;
        // SAFETY: the stream is the device's.
        unsafe { driver::stream_synchronize(stream) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.address != 0
            && let Ok(_entered) = self.device.enter()
        {
            // SAFETY: allocated once, freed once. Nobody is there to hear of a failure.
            let _ = unsafe { driver::mem_free(self.address) };
        }
    }
}

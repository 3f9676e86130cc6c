//! Copies.
//!
//! Host memory is read at the call, and a copy to it is waited for, as the driver does with memory that is
//! not page-locked. A captured copy reads or writes it when the graph runs.

use std::{ffi::c_void, sync::Arc};

use crate::{
    code::{Code, Handle, Outcome},
    driver::Driver,
    entry::exports,
    work::{HostPointer, Op, Source},
};

impl Driver {
    fn check_device_range(&self, address: u64, bytes: usize) -> Outcome {
        if self.memory.holds(address, bytes as u64) { Ok(()) } else { Err(Code::INVALID_VALUE) }
    }

    /// # Safety
    ///
    /// `from` is null or valid for reads of `bytes` until the copy is done.
    unsafe fn copy_to_device(
        &mut self,
        to: u64,
        from: *const c_void,
        bytes: usize,
        stream: Handle,
    ) -> Outcome {
        self.check_device_range(to, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        if from.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let source = if self.streams[&stream].capture.is_some() {
            Source::Host(HostPointer(from.cast_mut().cast()), bytes)
        } else {
            // SAFETY: the caller's.
            Source::Staged(Arc::from(unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) }))
        };
        self.submit(stream, Op::Write { to, source })
    }

    /// Whether it must be waited for.
    fn copy_to_host(&mut self, to: *mut c_void, from: u64, bytes: usize, stream: Handle) -> Outcome<bool> {
        self.check_device_range(from, bytes)?;
        if bytes == 0 {
            return Ok(false);
        }
        if to.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        self.submit(stream, Op::Read { from, to: HostPointer(to.cast()), bytes })?;
        Ok(self.streams[&stream].capture.is_none())
    }

    fn copy_on_device(&mut self, to: u64, from: u64, bytes: usize, stream: Handle) -> Outcome {
        self.check_device_range(to, bytes)?;
        self.check_device_range(from, bytes)?;
        if bytes == 0 {
            return Ok(());
        }
        self.submit(stream, Op::Copy { from, to, bytes })
    }

    /// The default stream, for a copy without `Async`.
    fn default_for_copy(&mut self) -> Outcome<Handle> {
        let stream = self.stream(0)?;
        self.forbid_implicit_dependency(stream)?;
        self.forbid_unsafe()?;
        Ok(stream)
    }

    fn finish_stream(&mut self, stream: Handle) -> Outcome {
        let goal = self.streams[&stream].tail.clone();
        self.finish(&goal)
    }
}

/// `CUDA_MEMCPY2D_v2`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Copy2d {
    from: Side,
    to: Side,
    row_bytes: usize,
    rows: usize,
}

/// One side of a copy of rows.
#[derive(Clone, Copy)]
#[repr(C)]
struct Side {
    x_bytes: usize,
    y: usize,
    memory_type: u32,
    host: *mut c_void,
    device: u64,
    array: *mut c_void,
    pitch: usize,
}

/// `CU_MEMORYTYPE_DEVICE`, the only kind of memory that copies of rows are for here.
const MEMORY_DEVICE: u32 = 2;

impl Side {
    /// Where the rows start: each has `row_bytes` within the pitch.
    fn rows(&self, Copy2d { row_bytes, rows, .. }: Copy2d) -> Outcome<impl Iterator<Item = u64>> {
        let Self { x_bytes, y, memory_type, device, pitch, .. } = *self;
        if memory_type != MEMORY_DEVICE {
            return Err(Code::NOT_SUPPORTED);
        }
        if x_bytes.checked_add(row_bytes).is_none_or(|end| end > pitch) {
            return Err(Code::INVALID_VALUE);
        }
        // Where that overflows, it is in no allocation.
        let row = move |row: usize| {
            device.wrapping_add(y.wrapping_add(row).wrapping_mul(pitch).wrapping_add(x_bytes) as u64)
        };
        Ok((0..rows).map(row))
    }
}

exports! {
    fn cuMemcpyHtoD_v2(driver, to: u64, from: *const c_void, bytes: usize) needs Health {
        let stream = driver.default_for_copy()?;
        // SAFETY: the caller's.
        unsafe { driver.copy_to_device(to, from, bytes, stream)? };
        driver.finish_stream(stream)
    }

    fn cuMemcpyDtoH_v2(driver, to: *mut c_void, from: u64, bytes: usize) needs Health {
        let stream = driver.default_for_copy()?;
        driver.copy_to_host(to, from, bytes, stream)?;
        driver.finish_stream(stream)
    }

    /// Not waited for.
    fn cuMemcpyDtoD_v2(driver, to: u64, from: u64, bytes: usize) needs Health {
        let stream = driver.default_for_copy()?;
        driver.copy_on_device(to, from, bytes, stream)
    }

    fn cuMemcpyHtoDAsync_v2(driver, to: u64, from: *const c_void, bytes: usize, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        // SAFETY: the caller's.
        unsafe { driver.copy_to_device(to, from, bytes, stream) }
    }

    fn cuMemcpyDtoHAsync_v2(driver, to: *mut c_void, from: u64, bytes: usize, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        if driver.copy_to_host(to, from, bytes, stream)? {
            driver.finish_stream(stream)?;
        }
        Ok(())
    }

    fn cuMemcpyDtoDAsync_v2(driver, to: u64, from: u64, bytes: usize, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        driver.copy_on_device(to, from, bytes, stream)
    }

    /// Row by row.
    fn cuMemcpy2DAsync_v2(driver, copy: *const Copy2d, stream: Handle) needs Health {
        let stream = driver.stream(stream)?;
        if copy.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's, and it is not null.
        let copy = unsafe { copy.read_unaligned() };
        for (from, to) in copy.from.rows(copy)?.zip(copy.to.rows(copy)?) {
            driver.copy_on_device(to, from, copy.row_bytes, stream)?;
        }
        Ok(())
    }
}

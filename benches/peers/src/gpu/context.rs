//! The device's primary context. This library makes it current in each of its calls; cuBLASLt takes the one
//! that it finds.

use std::marker::PhantomData;
use std::ptr;

use cust::sys::{
    CUcontext, CUdevice, cuCtxPopCurrent_v2, cuCtxPushCurrent_v2, cuDeviceGet, cuDevicePrimaryCtxRelease_v2,
    cuDevicePrimaryCtxRetain, cudaError_enum as CUresult,
};

/// A call of the driver that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} returned {result:?}")]
pub struct Failed {
    call: &'static str,
    result: CUresult,
}

/// A reference to a device's primary context.
pub struct Context {
    device: CUdevice,
    raw: CUcontext,
}

/// While it lives, the context is the calling thread's.
pub struct Entered<'a> {
    context: PhantomData<&'a Context>,
    /// What was pushed on this thread has to be popped on it.
    this_thread: PhantomData<*const ()>,
}

impl Context {
    /// That of the device of that number.
    ///
    /// # Errors
    ///
    /// If there is no such device, or its context cannot be had.
    pub fn retain(ordinal: u32) -> Result<Context, Failed> {
        let (mut device, mut raw) = (0, ptr::null_mut());
        // SAFETY: `device` is writable. A number that is too large for the driver is an error, here too.
        done("cuDeviceGet", unsafe { cuDeviceGet(&mut device, i32::try_from(ordinal).unwrap_or(i32::MAX)) })?;
        // SAFETY: `raw` is writable, and the device is one.
        done("cuDevicePrimaryCtxRetain", unsafe { cuDevicePrimaryCtxRetain(&mut raw, device) })?;
        Ok(Context { device, raw })
    }

    /// Makes it current until the guard is dropped.
    ///
    /// # Errors
    ///
    /// If the driver refuses it.
    pub fn enter(&self) -> Result<Entered<'_>, Failed> {
        // SAFETY: the context is retained.
        done("cuCtxPushCurrent", unsafe { cuCtxPushCurrent_v2(self.raw) })?;
        Ok(Entered { context: PhantomData, this_thread: PhantomData })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once, released once. Nobody is there to hear of a failure.
        let _ = unsafe { cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut popped = ptr::null_mut();
        // SAFETY: `popped` is writable, and this thread pushed a context that is popped once.
        let _ = unsafe { cuCtxPopCurrent_v2(&mut popped) };
    }
}

fn done(call: &'static str, result: CUresult) -> Result<(), Failed> {
    if result == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(Failed { call, result }) }
}

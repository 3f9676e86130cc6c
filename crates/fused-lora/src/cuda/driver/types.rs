//! The driver's handles and the values that it is called with, as `cuda.h` has them.

use std::{
    ffi::{c_int, c_void},
    ptr,
};

macro_rules! handles {
    ($($name:ident)*) => {$(
        #[doc = concat!("`", stringify!($name), "`")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(transparent)]
        pub(crate) struct $name(pub(crate) *mut c_void);

        // SAFETY: a handle is a number to everybody but the driver, which may be called from any thread.
        unsafe impl Send for $name {}
        // SAFETY: as above; the driver itself serialises calls with one handle.
        unsafe impl Sync for $name {}

        #[allow(dead_code, reason = "some handles are never null")]
        impl $name {
            pub(crate) const NULL: Self = Self(ptr::null_mut());
        }
    )*};
}

handles!(CUcontext CUmodule CUfunction CUstream CUevent CUgraph CUgraphExec);

/// `CUdevice`
pub(crate) type CUdevice = c_int;

/// `CUresult`s that mean something of their own.
pub(crate) mod result {
    pub(crate) const OUT_OF_MEMORY: u32 = 2;
    pub(crate) const NO_DEVICE: u32 = 100;
    pub(crate) const UNSUPPORTED_PTX_VERSION: u32 = 222;
    pub(crate) const NOT_FOUND: u32 = 500;
}

/// `CUdevice_attribute`
pub(crate) mod attribute {
    pub(crate) const CLOCK_RATE: u32 = 13;
    pub(crate) const MULTIPROCESSOR_COUNT: u32 = 16;
    pub(crate) const MEMORY_CLOCK_RATE: u32 = 36;
    pub(crate) const GLOBAL_MEMORY_BUS_WIDTH: u32 = 37;
    pub(crate) const L2_CACHE_SIZE: u32 = 38;
    pub(crate) const MAX_THREADS_PER_MULTIPROCESSOR: u32 = 39;
    pub(crate) const COMPUTE_CAPABILITY_MAJOR: u32 = 75;
    pub(crate) const COMPUTE_CAPABILITY_MINOR: u32 = 76;
    pub(crate) const MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: u32 = 81;
    pub(crate) const MAX_REGISTERS_PER_MULTIPROCESSOR: u32 = 82;
    pub(crate) const MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: u32 = 97;
}

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`
pub(crate) const MAX_DYNAMIC_SHARED_SIZE_BYTES: u32 = 8;
/// `CU_JIT_ERROR_LOG_BUFFER`
pub(crate) const JIT_ERROR_LOG_BUFFER: u32 = 5;
/// `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`
pub(crate) const JIT_ERROR_LOG_BUFFER_SIZE_BYTES: u32 = 6;
/// `CU_STREAM_NON_BLOCKING`: does not wait for the default stream, nor that for it.
pub(crate) const STREAM_NON_BLOCKING: u32 = 1;
/// `CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`
pub(crate) const STREAM_CAPTURE_MODE_THREAD_LOCAL: u32 = 1;

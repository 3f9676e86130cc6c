//! The table of the driver's functions that this library calls.
//!
//! Their results are numbers here and become errors. An enum of them would not do: a newer driver has results
//! that an enum does not know, and a value outside of an enum is undefined behaviour.

use std::{
    ffi::{CStr, c_char, c_int, c_void},
    ptr,
    sync::OnceLock,
};

use libloading::Library;

use super::{
    library::{self, LoadError},
    structures::{CopyRows, LaunchConfig, RawTensorMap},
    types::{
        CUcontext, CUdevice, CUevent, CUfunction, CUgraph, CUgraphExec, CUmodule, CUstream, result::NOT_FOUND,
    },
};
use crate::cuda::error::Error;

macro_rules! functions {
    ($($name:ident = $symbol:literal ($($argument:ident: $type:ty),*);)*) => {
        /// Addresses of the functions; None for one that the driver lacks.
        struct Functions {
            $($name: Option<unsafe extern "C" fn($($type),*) -> u32>,)*
        }

        impl Functions {
            fn of(library: &Library) -> Self {
                Self {
                    // SAFETY: the type is that of the function of this name in `cuda.h`, and the library
                    // stays loaded as long as there is a `Functions`.
                    $($name: unsafe { library.get(concat!($symbol, "\0")) }.ok().map(|function| *function),)*
                }
            }
        }

        $(
            #[doc = concat!("`", $symbol, "`")]
            ///
            /// # Errors
            ///
            /// [`Error::Driver`] with what it returns; with 500 if the driver does not have it.
            ///
            /// # Safety
            ///
            /// - Pointers are valid for what the *CUDA Driver API* says that the function reads or writes
            ///   there.
            /// - Handles are alive.
            /// - Where it needs a current context, that of its handles is current.
            #[allow(clippy::too_many_arguments, reason = "the driver's function")]
            #[allow(dead_code, reason = "`text` calls one by its address")]
            pub(crate) unsafe fn $name($($argument: $type),*) -> Result<(), Error> {
                let function = functions().map_err(|error| Error::NoDriver(error.clone()))?.$name;
                let function = function.ok_or_else(|| missing($symbol))?;
                // SAFETY: the caller's contract.
                check($symbol, unsafe { function($($argument),*) })
            }
        )*
    };
}

functions! {
    init = "cuInit"(flags: u32);
    driver_get_version = "cuDriverGetVersion"(version: *mut c_int);
    get_error_string = "cuGetErrorString"(code: u32, text: *mut *const c_char);

    device_get = "cuDeviceGet"(device: *mut CUdevice, ordinal: c_int);
    device_get_count = "cuDeviceGetCount"(count: *mut c_int);
    device_get_name = "cuDeviceGetName"(name: *mut c_char, bytes: c_int, device: CUdevice);
    device_get_uuid = "cuDeviceGetUuid"(uuid: *mut [u8; 16], device: CUdevice);
    device_total_mem = "cuDeviceTotalMem_v2"(bytes: *mut usize, device: CUdevice);
    device_get_attribute = "cuDeviceGetAttribute"(value: *mut c_int, attribute: u32, device: CUdevice);

    primary_ctx_retain = "cuDevicePrimaryCtxRetain"(context: *mut CUcontext, device: CUdevice);
    primary_ctx_release = "cuDevicePrimaryCtxRelease_v2"(device: CUdevice);
    ctx_push_current = "cuCtxPushCurrent_v2"(context: CUcontext);
    ctx_pop_current = "cuCtxPopCurrent_v2"(context: *mut CUcontext);
    ctx_synchronize = "cuCtxSynchronize"();

    module_load_data_ex = "cuModuleLoadDataEx"(module: *mut CUmodule, image: *const c_void, options: u32,
        names: *mut u32, values: *mut *mut c_void);
    module_unload = "cuModuleUnload"(module: CUmodule);
    module_get_function = "cuModuleGetFunction"(function: *mut CUfunction, module: CUmodule,
        name: *const c_char);
    func_set_attribute = "cuFuncSetAttribute"(function: CUfunction, attribute: u32, value: c_int);
    max_active_blocks = "cuOccupancyMaxActiveBlocksPerMultiprocessor"(blocks: *mut c_int,
        function: CUfunction, threads: c_int, shared_bytes: usize);
    max_active_clusters = "cuOccupancyMaxActiveClusters"(clusters: *mut c_int, function: CUfunction,
        config: *const LaunchConfig);
    launch_kernel = "cuLaunchKernel"(function: CUfunction, grid_x: u32, grid_y: u32, grid_z: u32,
        block_x: u32, block_y: u32, block_z: u32, shared_bytes: u32, stream: CUstream,
        parameters: *mut *mut c_void, extra: *mut *mut c_void);
    launch_kernel_ex = "cuLaunchKernelEx"(config: *const LaunchConfig, function: CUfunction,
        parameters: *mut *mut c_void, extra: *mut *mut c_void);
    tensor_map_encode_tiled = "cuTensorMapEncodeTiled"(map: *mut RawTensorMap, data_type: u32, rank: u32,
        address: *mut c_void, dimensions: *const u64, strides: *const u64, box_dimensions: *const u32,
        element_strides: *const u32, interleave: u32, swizzle: u32, promotion: u32, fill: u32);

    mem_get_info = "cuMemGetInfo_v2"(free: *mut usize, total: *mut usize);
    mem_alloc = "cuMemAlloc_v2"(address: *mut u64, bytes: usize);
    mem_free = "cuMemFree_v2"(address: u64);
    memcpy_htod_async = "cuMemcpyHtoDAsync_v2"(to: u64, from: *const c_void, bytes: usize, stream: CUstream);
    memcpy_dtoh_async = "cuMemcpyDtoHAsync_v2"(to: *mut c_void, from: u64, bytes: usize, stream: CUstream);
    memcpy_dtod_async = "cuMemcpyDtoDAsync_v2"(to: u64, from: u64, bytes: usize, stream: CUstream);
    memcpy_2d_async = "cuMemcpy2DAsync_v2"(copy: *const CopyRows, stream: CUstream);
    memset_d8_async = "cuMemsetD8Async"(address: u64, value: u8, count: usize, stream: CUstream);
    memset_d16_async = "cuMemsetD16Async"(address: u64, value: u16, count: usize, stream: CUstream);

    stream_create = "cuStreamCreate"(stream: *mut CUstream, flags: u32);
    stream_destroy = "cuStreamDestroy_v2"(stream: CUstream);
    stream_synchronize = "cuStreamSynchronize"(stream: CUstream);
    stream_begin_capture = "cuStreamBeginCapture_v2"(stream: CUstream, mode: u32);
    stream_end_capture = "cuStreamEndCapture"(stream: CUstream, graph: *mut CUgraph);

    event_create = "cuEventCreate"(event: *mut CUevent, flags: u32);
    event_destroy = "cuEventDestroy_v2"(event: CUevent);
    event_record = "cuEventRecord"(event: CUevent, stream: CUstream);
    event_synchronize = "cuEventSynchronize"(event: CUevent);
    event_elapsed_time = "cuEventElapsedTime"(milliseconds: *mut f32, start: CUevent, end: CUevent);

    graph_instantiate = "cuGraphInstantiate_v2"(executable: *mut CUgraphExec, graph: CUgraph,
        error_node: *mut *mut c_void, log: *mut c_char, log_bytes: usize);
    graph_destroy = "cuGraphDestroy"(graph: CUgraph);
    graph_launch = "cuGraphLaunch"(executable: CUgraphExec, stream: CUstream);
    graph_exec_destroy = "cuGraphExecDestroy"(executable: CUgraphExec);
}

/// The functions of the driver, which the first call loads. It stays loaded until the process ends.
fn functions() -> Result<&'static Functions, &'static LoadError> {
    static FUNCTIONS: OnceLock<Result<Functions, LoadError>> = OnceLock::new();
    let load = || {
        let library = library::open()?;
        let functions = Functions::of(&library);
        // Never closed: the addresses stay good.
        std::mem::forget(library);
        Ok(functions)
    };
    FUNCTIONS.get_or_init(load).as_ref()
}

/// Success, or an error with the driver's words.
fn check(call: &'static str, code: u32) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::Driver { call, code, text: text(code) }) }
}

fn missing(call: &'static str) -> Error {
    Error::Driver { call, code: NOT_FOUND, text: "the driver does not have this function".to_owned() }
}

/// What the driver says of a result.
fn text(code: u32) -> String {
    let mut text: *const c_char = ptr::null();
    let function = functions().ok().and_then(|functions| functions.get_error_string);
    // SAFETY: `text` is writable. The function takes any number.
    let known = function.is_some_and(|function| unsafe { function(code, &mut text) } == 0);
    if !known || text.is_null() {
        return "a result that the driver has no words for".to_owned();
    }
    // SAFETY: not null, checked above; after a success it points to a static C string.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_no_enum_knows_is_an_error_with_its_number() {
        let Err(Error::Driver { call: "cuInit", code: 46, text }) = check("cuInit", 46) else {
            panic!("a code other than 0 is an error");
        };
        assert!(!text.is_empty());
        assert_eq!(check("cuInit", 0), Ok(()));
    }

    /// The C library is a library, and has none of the functions.
    #[test]
    fn functions_that_a_library_lacks_are_looked_up_without_a_failure() {
        // SAFETY: it is loaded already.
        let library = unsafe { Library::new("libc.so.6") }.unwrap();
        let functions = Functions::of(&library);
        assert!(functions.init.is_none() && functions.tensor_map_encode_tiled.is_none());
        let text = missing("cuLaunchKernelEx").to_string();
        assert_eq!(text, "cuLaunchKernelEx failed with 500: the driver does not have this function");
    }
}

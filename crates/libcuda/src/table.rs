//! The functions by name and types of arguments. All return a `CUresult`, and none is variadic.
//!
//! Types are those of the calling convention: `P` is a pointer or a handle, enums and flags are `u32`. The
//! test compares them with the declarations that `cust` calls. What is missing here fails the link of a
//! binary that calls it: add it.

/// A pointer or a handle.
pub(crate) type P = *mut std::ffi::c_void;

/// Calls the macro `$callback` with all functions: those that `cust_raw` declares, then later ones.
macro_rules! for_each_function {
    ($callback:ident) => {
        $callback! {
            cust {
            // What the compiled `cust` refers to.
            cuArray3DCreate_v2(P, P);
            cuArray3DGetDescriptor_v2(P, P);
            cuArrayDestroy(P);
            cuCtxCreate_v2(P, u32, i32);
            cuCtxDestroy_v2(P);
            cuCtxGetApiVersion(P, P);
            cuCtxGetCacheConfig(P);
            cuCtxGetCurrent(P);
            cuCtxGetDevice(P);
            cuCtxGetFlags(P);
            cuCtxGetLimit(P, u32);
            cuCtxGetSharedMemConfig(P);
            cuCtxGetStreamPriorityRange(P, P);
            cuCtxPopCurrent_v2(P);
            cuCtxSetCacheConfig(u32);
            cuCtxSetCurrent(P);
            cuCtxSetLimit(u32, usize);
            cuCtxSetSharedMemConfig(u32);
            cuCtxSynchronize();
            cuDestroyExternalMemory(P);
            cuDeviceGet(P, i32);
            cuDeviceGetAttribute(P, u32, i32);
            cuDeviceGetCount(P);
            cuDeviceGetName(P, i32, i32);
            cuDevicePrimaryCtxRelease_v2(i32);
            cuDevicePrimaryCtxReset_v2(i32);
            cuDevicePrimaryCtxRetain(P, i32);
            cuDevicePrimaryCtxSetFlags_v2(i32, u32);
            cuDeviceTotalMem_v2(P, i32);
            cuDriverGetVersion(P);
            cuEventCreate(P, u32);
            cuEventDestroy_v2(P);
            cuEventElapsedTime(P, P, P);
            cuEventQuery(P);
            cuEventRecord(P, P);
            cuEventSynchronize(P);
            cuFuncGetAttribute(P, u32, P);
            cuFuncSetCacheConfig(P, u32);
            cuFuncSetSharedMemConfig(P, u32);
            cuGetErrorString(u32, P);
            cuGraphDestroy(P);
            cuImportExternalMemory(P, P);
            cuInit(u32);
            cuLinkComplete(P, P, P);
            cuLinkCreate_v2(u32, P, P, P);
            cuLinkDestroy(P);
            cuMemGetInfo_v2(P, P);
            cuMemcpyHtoD_v2(u64, P, usize);
            cuModuleLoadData(P, P);
            cuModuleLoadDataEx(P, P, u32, P, P);
            cuModuleUnload(P);
            cuOccupancyAvailableDynamicSMemPerBlock(P, P, i32, i32);
            cuOccupancyMaxActiveBlocksPerMultiprocessor(P, P, i32, usize);
            cuOccupancyMaxPotentialBlockSize(P, P, P, P, usize, i32);
            cuStreamCreateWithPriority(P, u32, i32);
            cuStreamDestroy_v2(P);
            cuStreamGetFlags(P, P);
            cuStreamGetPriority(P, P);
            cuStreamSynchronize(P);
            cuStreamWaitEvent(P, P, u32);
            cuSurfObjectCreate(P, P);
            cuSurfObjectDestroy(u64);
            cuSurfObjectGetResourceDesc(P, u64);
            cuTexObjectCreate(P, P, P, P);
            cuTexObjectDestroy(u64);
            cuTexObjectGetResourceDesc(P, u64);
            // What this workspace's uses of its generic functions refer to, and what it calls of `cust::sys`.
            cuDeviceGetUuid(P, i32);
            cuFuncSetAttribute(P, u32, i32);
            cuGetErrorName(u32, P);
            cuGraphExecDestroy(P);
            cuGraphInstantiateWithFlags(P, P, u64);
            cuGraphInstantiate_v2(P, P, P, P, usize);
            cuGraphLaunch(P, P);
            cuLaunchKernel(P, u32, u32, u32, u32, u32, u32, u32, P, P, P);
            cuMemAlloc_v2(P, usize);
            cuMemFree_v2(u64);
            cuMemcpyDtoD_v2(u64, u64, usize);
            cuMemcpyDtoHAsync_v2(P, u64, usize, P);
            cuMemcpyDtoH_v2(P, u64, usize);
            cuMemcpyHtoDAsync_v2(u64, P, usize, P);
            cuMemsetD16Async(u64, u16, usize, P);
            cuMemsetD8Async(u64, u8, usize, P);
            cuMemsetD8_v2(u64, u8, usize);
            cuModuleGetFunction(P, P, P);
            cuStreamBeginCapture_v2(P, u32);
            cuStreamCreate(P, u32);
            cuStreamEndCapture(P, P);
            cuStreamIsCapturing(P, P);
            }
            // What `cust_raw` does not know; whoever calls it declares it.
            later {
            cuLaunchKernelEx(P, P, P, P);
            cuOccupancyMaxActiveClusters(P, P, P);
            cuTensorMapEncodeTiled(P, u32, u32, P, P, P, P, P, u32, u32, u32, u32);
            }
        }
    };
}
pub(crate) use for_each_function;

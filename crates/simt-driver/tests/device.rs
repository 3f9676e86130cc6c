//! Devices, contexts, modules and settings, seen through cust.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use common::{assert_wrote, kernel, module, on_device, ptx, this_test, with_driver};
use cust::{
    CudaApiVersion, CudaFlags,
    context::{Context, CurrentContext},
    device::{Device, DeviceAttribute},
    error::CudaError,
    memory::DeviceBuffer,
    module::Module,
    sys,
};
use fused_lora_kernels::table::KERNELS;

#[test]
fn the_device_is_what_the_environment_says() {
    let variables = [
        ("CAPABILITY", "9.0"),
        ("DRIVER_VERSION", "12.8"),
        ("DEVICES", "2"),
        ("MEMORY", "1000000"),
        ("MULTIPROCESSORS", "7"),
        ("SHARED", "101376"),
    ];
    with_driver(this_test!(), &variables, || {
        cust::init(CudaFlags::empty()).expect("a driver");
        let version = CudaApiVersion::get().expect("a version");
        assert_eq!((version.major(), version.minor()), (12, 8));
        assert_eq!(Device::num_devices(), Ok(2));
        assert_eq!(Device::get_device(2).map(|_| ()), Err(CudaError::InvalidDevice));
        let device = Device::get_device(1).expect("there are two");
        let attribute = |attribute| device.get_attribute(attribute).expect("an attribute");
        assert_eq!(attribute(DeviceAttribute::ComputeCapabilityMajor), 9);
        assert_eq!(attribute(DeviceAttribute::ComputeCapabilityMinor), 0);
        assert_eq!(attribute(DeviceAttribute::MultiprocessorCount), 7);
        assert_eq!(attribute(DeviceAttribute::MaxSharedMemoryPerBlock), 48 * 1024);
        assert_eq!(attribute(DeviceAttribute::MaxSharedMemoryPerMultiprocessor), 228 * 1024);
        assert_eq!(attribute(DeviceAttribute::WarpSize), 32);
        let opt_in = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let mut limit = 0;
        // SAFETY: valid for a write.
        common::ok(unsafe { sys::cuDeviceGetAttribute(&mut limit, opt_in, device.as_raw()) });
        assert_eq!(limit, 101_376);
        assert_eq!(device.total_memory(), Ok(1_000_000));
        assert_eq!(device.name().as_deref(), Ok("Strict machine (no GPU)"));
        let uuid = |ordinal| {
            let mut uuid = sys::CUuuid::default();
            // SAFETY: valid for a write.
            common::ok(unsafe { sys::cuDeviceGetUuid(&mut uuid, ordinal) });
            uuid.bytes
        };
        assert_ne!(uuid(0), uuid(1));
    });
}

#[test]
fn a_machine_without_a_device() {
    with_driver(this_test!(), &[("DEVICES", "0")], || {
        assert_eq!(cust::init(CudaFlags::empty()), Err(CudaError::NoDevice));
        assert_eq!(CudaApiVersion::get().map(CudaApiVersion::major), Ok(12), "needs no cuInit");
    });
}

#[test]
fn nothing_works_before_it_is_initialised_or_without_a_context() {
    with_driver(this_test!(), &[], || {
        assert_eq!(Device::num_devices(), Err(CudaError::NotInitialized));
        cust::init(CudaFlags::empty()).expect("a driver");
        assert_eq!(CurrentContext::synchronize(), Err(CudaError::InvalidContext));
        let context = Context::new(Device::get_device(0).expect("a device")).expect("a context");
        assert_eq!(CurrentContext::synchronize(), Ok(()));
        let again = context.clone();
        drop(context);
        assert_eq!(CurrentContext::synchronize(), Ok(()), "retained twice");
        let buffer = DeviceBuffer::<u8>::zeroed(16).expect("memory");
        drop(again);
        assert_eq!(CurrentContext::synchronize(), Err(CudaError::ContextIsDestroyed));
        std::mem::forget(buffer);
        let _context = Context::new(Device::get_device(0).expect("a device")).expect("a context");
        let (free, total) = cust::memory::mem_get_info().expect("a context");
        assert_eq!(free, total, "a context takes its memory with it");
    });
}

#[test]
fn contexts_belong_to_threads() {
    with_driver(this_test!(), &[], || {
        let context = cust::quick_init().expect("a driver");
        std::thread::scope(|scope| {
            let other = scope.spawn(|| {
                assert_eq!(CurrentContext::synchronize(), Err(CudaError::InvalidContext));
                CurrentContext::set_current(&context).expect("it is there");
                DeviceBuffer::from_slice(&[1u8]).map(|_| ())
            });
            assert_eq!(other.join().expect("no panic"), Ok(()));
        });
    });
}

#[test]
fn modules_hold_our_kernels() {
    on_device(this_test!(), &[("CAPABILITY", "8.6")], || {
        let module = module().expect("PTX");
        for kernel in KERNELS {
            assert!(module.get_function(kernel.name).is_ok(), "{}", kernel.name);
        }
        assert_eq!(module.get_function("no_such_kernel").map(|_| ()), Err(CudaError::NotFound));
        let function = module.get_function("gemm_128x256").expect("ours");
        let kernel = kernel("gemm_128x256");
        assert_eq!(function.max_active_blocks_per_multiprocessor(kernel.threads.into(), 99 * 1024), Ok(1));
        assert_eq!(
            function.max_active_blocks_per_multiprocessor(kernel.threads.into(), 99 * 1024 + 1),
            Ok(0)
        );
    });
}

#[test]
fn images_for_other_devices_are_rejected() {
    let text = on_device(this_test!(), &[("CAPABILITY", "7.5"), ("DRIVER_VERSION", "11.0")], || {
        assert_eq!(module().map(|_| ()), Err(CudaError::InvalidPtx));
        assert_eq!(Module::from_ptx("no PTX", &[]).map(|_| ()), Err(CudaError::InvalidPtx));
        // UNSUPPORTED_PTX_VERSION, which cust does not know.
        let newer = ptx().replace(".version 7.0", ".version 8.0");
        assert_eq!(Module::from_ptx(newer, &[]).map(|_| ()), Err(CudaError::UnknownError));
    });
    assert_wrote(text, &["PTX for sm_80 on compute capability 7.5"]);
}

#[test]
fn functions_fail_when_asked_to() {
    on_device(this_test!(), &[("FAIL", "cuMemAlloc:2@2,cuModuleLoadDataEx:209")], || {
        assert!(DeviceBuffer::from_slice(&[1u8]).is_ok());
        assert_eq!(DeviceBuffer::from_slice(&[1u8]).map(|_| ()), Err(CudaError::OutOfMemory));
        assert!(DeviceBuffer::from_slice(&[1u8]).is_ok());
        assert_eq!(module().map(|_| ()), Err(CudaError::NoBinaryForGpu));
    });
}

#[test]
fn a_bad_setting_is_an_error_that_names_it() {
    let text = with_driver(this_test!(), &[("CAPABILITY", "new")], || {
        assert_eq!(cust::init(CudaFlags::empty()), Err(CudaError::UnknownError));
    });
    assert_wrote(text, &["FUSED_LORA_SIMT_CAPABILITY=\"new\""]);
}

#[test]
fn errors_have_names_and_texts() {
    with_driver(this_test!(), &[], || {
        assert_eq!(CudaError::IllegalAddress.to_string(), "\"an illegal memory access was encountered\"");
        let mut name = std::ptr::null();
        // SAFETY: valid for a write.
        let code =
            unsafe { sys::cuGetErrorName(sys::CUresult::CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, &mut name) };
        common::ok(code);
        // SAFETY: the driver's names are static.
        let name = unsafe { std::ffi::CStr::from_ptr(name) };
        assert_eq!(name, c"CUDA_ERROR_STREAM_CAPTURE_IMPLICIT");
    });
}

//! Device memory and copies, seen through cust.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use common::{assert_wrote, ok, on_device, stream, this_test};
use cust::{
    error::CudaError,
    memory::{AsyncCopyDestination, CopyDestination, DeviceBuffer, mem_get_info},
    sys::{self, CUresult},
};

#[test]
fn what_is_written_is_read() {
    on_device(this_test!(), &[], || {
        let values: Vec<u16> = (0..1000).collect();
        let a = DeviceBuffer::from_slice(&values).expect("memory");
        assert_eq!(a.as_device_ptr().as_raw() % 256, 0);
        let b = DeviceBuffer::<u16>::zeroed(1000).expect("memory");
        b.index(..500).copy_from(&a.index(500..)).expect("in bounds");
        let read = b.as_host_vec().expect("written");
        assert_eq!((&read[..500], &read[500..]), (&values[500..], &[0; 500][..]));
        let address = b.as_device_ptr().as_raw();
        // SAFETY: of device memory the driver knows.
        let code = unsafe { sys::cuMemsetD8_v2(address, 0, 2001) };
        assert_eq!(code, CUresult::CUDA_ERROR_INVALID_VALUE, "out of bounds");
    });
}

#[test]
fn memory_is_limited() {
    on_device(this_test!(), &[("MEMORY", "1000")], || {
        let first = DeviceBuffer::<u8>::zeroed(600).expect("fits");
        assert_eq!(mem_get_info(), Ok((400, 1000)));
        assert_eq!(DeviceBuffer::<u8>::zeroed(401).map(|_| ()), Err(CudaError::OutOfMemory));
        drop(first);
        assert_eq!(mem_get_info(), Ok((1000, 1000)));
        assert!(DeviceBuffer::<u8>::zeroed(1000).is_ok());
    });
}

#[test]
fn reading_what_nobody_wrote_breaks_the_context() {
    let text = on_device(this_test!(), &[], || {
        // SAFETY: that is the question.
        let buffer = unsafe { DeviceBuffer::<u16>::uninitialized(8) }.expect("memory");
        assert_eq!(buffer.as_host_vec(), Err(CudaError::LaunchFailed));
        assert_eq!(DeviceBuffer::from_slice(&[1u8]).map(|_| ()), Err(CudaError::LaunchFailed), "sticky");
    });
    assert_wrote(text, &["reads allocation 0 of 16 bytes + 0x0, which nobody wrote"]);
}

#[test]
fn copies_are_checked_at_the_call() {
    on_device(this_test!(), &[], || {
        let mut buffer = DeviceBuffer::<u8>::zeroed(8).expect("memory");
        let address = buffer.as_device_ptr().as_raw();
        let mut host = [0u8; 9];
        let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
        // SAFETY: host memory is long enough; of device memory the driver knows.
        unsafe {
            assert_eq!(sys::cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), address, 9), invalid);
            assert_eq!(sys::cuMemcpyHtoD_v2(address + 1, host.as_ptr().cast(), 8), invalid);
            assert_eq!(sys::cuMemFree_v2(address + 1), invalid, "not the start");
            ok(sys::cuMemFree_v2(address));
            assert_eq!(sys::cuMemFree_v2(address), invalid, "twice");
            assert_eq!(sys::cuMemcpyHtoD_v2(address, host.as_ptr().cast(), 8), invalid, "after free");
        }
        std::mem::forget(std::mem::replace(&mut buffer, DeviceBuffer::zeroed(1).expect("not broken")));
    });
}

#[test]
fn host_memory_is_read_at_the_call_and_a_copy_to_it_is_waited_for() {
    on_device(this_test!(), &[], || {
        let stream = stream();
        let mut buffer = DeviceBuffer::<u32>::zeroed(4).expect("memory");
        let source = vec![5u32; 4];
        let mut read = vec![0u32; 4];
        // SAFETY: the driver copies such memory at the call, and waits before it returns.
        unsafe {
            buffer.async_copy_from(source.as_slice(), &stream).expect("in bounds");
            drop(source);
            buffer.async_copy_to(read.as_mut_slice(), &stream).expect("in bounds");
        }
        assert_eq!(read, [5; 4]);
    });
}

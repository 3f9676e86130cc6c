//! Arguments and results go through the trampolines as they are, at the first call and later. Against the
//! fake driver.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use std::ffi::c_void;
use std::path::PathBuf;
use std::sync::Barrier;

use common::{Driver, with_driver};
use cust::error::CudaError;
use cust::sys::{self, CUresult};
use fused_lora_libcuda::LIBRARY_VARIABLE;
use libloading::Library;

fn driver() -> Library {
    let path = PathBuf::from(std::env::var_os(LIBRARY_VARIABLE).expect("set for the child"));
    // SAFETY: the fake driver's initialiser writes scratch registers alone. Opened a second time, it is the
    // same instance.
    unsafe { Library::new(path) }.expect("it is loaded already")
}

fn last_call() -> Vec<u64> {
    let driver = driver();
    // SAFETY: the fake driver's signature.
    let last_call =
        unsafe { driver.get::<unsafe extern "C" fn(*mut u64, usize) -> usize>(b"fake_last_call\0") }.unwrap();
    let mut arguments = vec![0; 32];
    // SAFETY: valid for 32 writes.
    let count = unsafe { last_call(arguments.as_mut_ptr(), arguments.len()) };
    arguments.truncate(count);
    arguments
}

/// A pointer that nobody dereferences, with all its bytes different.
fn handle<T>(low: u64) -> *mut T {
    (0xf1e2_d3c4_b5a6_9700 | low) as *mut T
}

fn bits(low: u64) -> u64 {
    handle::<c_void>(low) as u64
}

#[test]
fn no_argument_and_a_result() {
    with_driver("no_argument_and_a_result", Driver::Current, || {
        for _ in 0..3 {
            // SAFETY: no arguments.
            assert_eq!(unsafe { sys::cuCtxSynchronize() }, CUresult::CUDA_ERROR_LAUNCH_FAILED);
        }
        assert_eq!(last_call(), []);
    });
}

#[test]
fn one_argument() {
    with_driver("one_argument", Driver::Current, || {
        for flags in [0xdead_beef, 7, 0] {
            // SAFETY: the fake driver takes any flags.
            assert_eq!(unsafe { sys::cuInit(flags) }, CUresult::CUDA_SUCCESS);
            assert_eq!(last_call(), [u64::from(flags)]);
        }
    });
}

#[test]
fn a_result_through_a_pointer_as_cust_reads_it() {
    with_driver("a_result_through_a_pointer_as_cust_reads_it", Driver::Current, || {
        assert_eq!(fused_lora_libcuda::load(), Ok(()));
        // The two have slots side by side.
        for _ in 0..2 {
            let version = cust::CudaApiVersion::get().unwrap();
            assert_eq!((version.major(), version.minor()), (12, 34));
            cust::init(cust::CudaFlags::empty()).unwrap();
            assert_eq!(last_call(), [0]);
        }
    });
}

#[test]
fn floats() {
    with_driver("floats", Driver::Current, || {
        for (low, high) in [(1.5f32, -3.25), (f32::MIN_POSITIVE, f32::MAX)] {
            // SAFETY: the fake driver dereferences nothing.
            let result = unsafe { sys::cuTexRefSetMipmapLevelClamp(handle(1), low, high) };
            assert_eq!(result, CUresult::CUDA_SUCCESS);
            assert_eq!(last_call(), [bits(1), low.to_bits().into(), high.to_bits().into()]);
        }
    });
}

#[test]
fn six_arguments_in_registers() {
    with_driver("six_arguments_in_registers", Driver::Current, || {
        for round in [0, 0x10] {
            let [to, to_ctx, from, from_ctx, stream] = [1, 2, 3, 4, 5].map(|low| round + low);
            let bytes = usize::MAX - 9;
            // SAFETY: the fake driver dereferences nothing.
            let result = unsafe {
                let (to, from) = (bits(to), bits(from));
                sys::cuMemcpyPeerAsync(to, handle(to_ctx), from, handle(from_ctx), bytes, handle(stream))
            };
            assert_eq!(result, CUresult::CUDA_SUCCESS);
            assert_eq!(
                last_call(),
                [bits(to), bits(to_ctx), bits(from), bits(from_ctx), bytes as u64, bits(stream)]
            );
        }
    });
}

#[test]
fn eleven_arguments_of_a_launch() {
    with_driver("eleven_arguments_of_a_launch", Driver::Current, || {
        for round in [0, 100] {
            let [x, y, z, bx, by, bz, shared] = [11, 12, 13, 14, 15, 16, 232_448].map(|value| round + value);
            // SAFETY: the fake driver dereferences nothing.
            let result = unsafe {
                sys::cuLaunchKernel(handle(1), x, y, z, bx, by, bz, shared, handle(2), handle(3), handle(4))
            };
            assert_eq!(result, CUresult::CUDA_SUCCESS);
            let dimensions = [x, y, z, bx, by, bz, shared].map(u64::from);
            assert_eq!(
                last_call(),
                [&[bits(1)], dimensions.as_slice(), &[bits(2), bits(3), bits(4)]].concat()
            );
        }
    });
}

#[test]
fn twelve_arguments_of_a_function_that_cust_does_not_declare() {
    unsafe extern "C" {
        #[rustfmt::skip]
        fn cuTensorMapEncodeTiled(
            map: u64,
            data_type: u32,
            rank: u32,
            address: u64,
            dimensions: u64,
            strides: u64,
            box_dimensions: u64,
            element_strides: u64,
            interleave: u32,
            swizzle: u32,
            promotion: u32,
            fill: u32,
        ) -> u32;
    }
    let name = "twelve_arguments_of_a_function_that_cust_does_not_declare";
    with_driver(name, Driver::Current, || {
        for round in [0, 0x30] {
            let p: [u64; 6] = std::array::from_fn(|i| bits(round + i as u64));
            let [data_type, rank, interleave, swizzle, promotion, fill] =
                [6, 2, 10, 11, 12, 13].map(|value| round as u32 + value);
            // SAFETY: the fake driver dereferences nothing.
            let result = unsafe {
                cuTensorMapEncodeTiled(
                    p[0], data_type, rank, p[1], p[2], p[3], p[4], p[5], interleave, swizzle, promotion, fill,
                )
            };
            assert_eq!(result, 0);
            let modes = [interleave, swizzle, promotion, fill].map(u64::from);
            let [data_type, rank] = [data_type, rank].map(u64::from);
            let places = [p[0], data_type, rank, p[1], p[2], p[3], p[4], p[5]];
            assert_eq!(last_call(), [places.as_slice(), &modes].concat());
        }
    });
}

#[test]
fn every_argument_register_and_the_stack() {
    #[rustfmt::skip]
    type Everything = unsafe extern "C" fn(
        u64, u64, u64, u64, u64, u64, u64, u64, u64,
        f64, f64, f64, f64, f64, f64, f64, f64, f64,
    ) -> u32;
    with_driver("every_argument_register_and_the_stack", Driver::Current, || {
        // SAFETY: the signature that the fake driver gives this function. A trampoline has none of its own.
        let call = unsafe {
            std::mem::transmute::<*const c_void, Everything>(sys::cuArrayCreate_v2 as *const c_void)
        };
        for round in [0, 0x20] {
            let i: [u64; 9] = std::array::from_fn(|n| bits(round + n as u64));
            let f: [f64; 9] = std::array::from_fn(|n| (round as f64 + n as f64 + 0.5) * -1.1e100);
            // SAFETY: the fake driver only records them.
            let result = unsafe {
                call(
                    i[0], i[1], i[2], i[3], i[4], i[5], i[6], i[7], i[8], //
                    f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8],
                )
            };
            assert_eq!(result, 0);
            assert_eq!(last_call(), [i, f.map(f64::to_bits)].concat());
        }
    });
}

#[test]
fn threads_that_make_the_first_call_at_once() {
    with_driver("threads_that_make_the_first_call_at_once", Driver::Current, || {
        const THREADS: i32 = 64;
        let start = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let start = &start;
                scope.spawn(move || {
                    let (mut grid, mut block) = (-1, -1);
                    start.wait();
                    // SAFETY: the two results are locals; the fake driver dereferences nothing else.
                    let result = unsafe {
                        sys::cuOccupancyMaxPotentialBlockSizeWithFlags(
                            &mut grid,
                            &mut block,
                            handle(1),
                            None,
                            2,
                            thread,
                            1000 + thread as u32,
                        )
                    };
                    assert_eq!(result, CUresult::CUDA_SUCCESS);
                    assert_eq!((grid, block), (thread, 1000 + thread));
                });
            }
        });
        let driver = driver();
        // SAFETY: the fake driver's signature.
        let calls = unsafe { driver.get::<extern "C" fn() -> u64>(b"fake_occupancy_calls\0") }.unwrap();
        assert_eq!(calls(), THREADS as u64);
    });
}

#[test]
fn a_function_that_an_old_driver_lacks() {
    with_driver("a_function_that_an_old_driver_lacks", Driver::Old, || {
        assert_eq!(fused_lora_libcuda::load(), Ok(()));
        cust::init(cust::CudaFlags::empty()).expect("has it");
        for _ in 0..3 {
            let null = std::ptr::null_mut();
            // SAFETY: not there.
            let result = unsafe {
                sys::cuLaunchKernel(handle(1), 1, 1, 1, 1, 1, 1, 0, null, null.cast(), null.cast())
            };
            assert_eq!(result as u32, fused_lora_libcuda::FUNCTION_NOT_FOUND);
        }
        // Through cust, another one that the fake driver lacks.
        assert_eq!(cust::device::Device::num_devices(), Err(CudaError::NotFound));
        assert_eq!(CudaError::NotFound.to_string(), "\"not found\"");
    });
}

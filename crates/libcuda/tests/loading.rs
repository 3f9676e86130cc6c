//! Which library is loaded, and what a process without one sees. Each test runs in a process of its own: the
//! choice is made once.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

use std::process::Command;

use cust::{CudaFlags, error::CudaError};
use fused_lora_libcuda::{DRIVER_NOT_LOADED, LIBRARY_VARIABLE, load};

/// Runs the test of that name again as a child with this library, and there `body`.
fn in_child(test: &str, library: Option<&str>, body: impl FnOnce()) {
    const CHILD: &str = "FUSED_LORA_LIBCUDA_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(CHILD, "1").env_remove(LIBRARY_VARIABLE);
    let output = child.envs(library.map(|library| (LIBRARY_VARIABLE, library))).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    // A misspelt name would run no test and succeed.
    let ran = output.status.success() && stdout.contains("1 passed");
    assert!(ran, "{stdout}{}", String::from_utf8_lossy(&output.stderr));
}

fn assert_every_call_says(expected: CudaError) {
    for _ in 0..2 {
        assert_eq!(cust::init(CudaFlags::empty()), Err(expected));
        assert_eq!(cust::device::Device::num_devices(), Err(expected));
        assert_eq!(cust::module::Module::from_ptx(".version 7.0", &[]).err(), Some(expected));
        assert_eq!(cust::memory::DeviceBuffer::from_slice(&[1u32, 2]).err(), Some(expected));
    }
    assert!(!expected.to_string().is_empty(), "does not panic");
}

#[test]
fn a_library_that_is_not_there() {
    in_child("a_library_that_is_not_there", Some("/nowhere/libcuda.so.1"), || {
        // Nothing but this crate's functions was linked.
        assert!(!std::fs::read_to_string("/proc/self/maps").unwrap().contains("libcuda.so"));
        // Before `load`, which nothing needs.
        assert_every_call_says(CudaError::SharedObjectInitFailed);
        assert_eq!(CudaError::SharedObjectInitFailed as u32, DRIVER_NOT_LOADED);
        assert!(CudaError::OutOfMemory.to_string().contains("no CUDA driver"));
        let error = load().unwrap_err();
        assert!(error.contains("`/nowhere/libcuda.so.1`") && error.contains("No such file"), "{error}");
    });
}

#[test]
fn a_library_without_the_functions() {
    in_child("a_library_without_the_functions", Some("libc.so.6"), || {
        assert_eq!(load(), Ok(()));
        assert_every_call_says(CudaError::NotFound);
    });
}

/// The one test that calls a real driver, where there is one.
#[test]
fn this_machine_as_it_is() {
    for library in [None, Some("")] {
        in_child("this_machine_as_it_is", library, || match load() {
            Ok(()) => match cust::init(CudaFlags::empty()) {
                Ok(()) => assert!(cust::device::Device::num_devices().is_ok()),
                Err(error) => assert_eq!(error, CudaError::NoDevice),
            },
            Err(error) => {
                assert!(error.contains("`libcuda.so.1`"), "{error}");
                assert_every_call_says(CudaError::SharedObjectInitFailed);
            }
        });
    }
}

//! Which library is loaded, and what a process without one sees.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use common::{Driver, in_child, with_driver};
use cust::CudaFlags;
use cust::error::CudaError;
use fused_lora_libcuda::{DRIVER_NOT_LOADED, LIBRARY_VARIABLE, LoadError};

/// Runs `body` in a child where the dynamic loader looks for libraries in a folder with these files first.
fn with_folder(test: &str, files: &[(&str, File)], body: impl FnOnce()) {
    let folder = OnceLock::new();
    let prepare = |child: &mut Command| {
        let folder = folder.get_or_init(|| tempfile::tempdir().unwrap()).path();
        for (name, file) in files {
            match file {
                File::Driver(driver) => drop(std::fs::copy(driver.library(), folder.join(name)).unwrap()),
                File::Broken => std::fs::write(folder.join(name), "no library").unwrap(),
            }
        }
        child.env("LD_LIBRARY_PATH", folder);
    };
    in_child(test, prepare, body);
}

enum File {
    Driver(Driver),
    Broken,
}

fn assert_every_call_says(expected: CudaError) {
    let context = cust::context::Context::new;
    for _ in 0..2 {
        assert_eq!(cust::init(CudaFlags::empty()), Err(expected));
        assert_eq!(cust::CudaApiVersion::get().err(), Some(expected));
        assert_eq!(cust::device::Device::num_devices(), Err(expected));
        assert_eq!(cust::device::Device::get_device(0).and_then(context).err(), Some(expected));
        assert_eq!(cust::quick_init().err(), Some(expected));
        assert_eq!(cust::module::Module::from_ptx(".version 7.0", &[]).err(), Some(expected));
        assert_eq!(cust::stream::Stream::new(cust::stream::StreamFlags::DEFAULT, None).err(), Some(expected));
        assert_eq!(cust::event::Event::new(cust::event::EventFlags::DEFAULT).err(), Some(expected));
        assert_eq!(cust::memory::DeviceBuffer::from_slice(&[1u32, 2]).err(), Some(expected));
    }
}

#[test]
fn a_library_that_is_not_there() {
    let missing = |child: &mut Command| {
        child.env(LIBRARY_VARIABLE, "/nowhere/libcuda.so.1");
    };
    in_child("a_library_that_is_not_there", missing, || {
        // Before load(): the trampolines need no help.
        assert_every_call_says(CudaError::SharedObjectInitFailed);
        assert_eq!(CudaError::SharedObjectInitFailed as u32, DRIVER_NOT_LOADED);
        assert!(CudaError::SharedObjectInitFailed.to_string().contains("library is not loaded"));
        // Any other code too: `to_string` must not panic.
        assert!(CudaError::OutOfMemory.to_string().contains("no CUDA driver"));

        assert!(!fused_lora_libcuda::is_available());
        let error = fused_lora_libcuda::load().unwrap_err();
        let LoadError::Open { library, reason } = &error else { panic!("{error}") };
        assert_eq!(library, "/nowhere/libcuda.so.1");
        assert!(reason.contains("No such file"), "{reason}");
        assert!(error.to_string().contains(reason.as_str()) && error.to_string().contains(library.as_str()));
    });
}

#[test]
fn a_file_that_is_no_library() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("link/lib64/libcuda.so");
    let named = |child: &mut Command| {
        child.env(LIBRARY_VARIABLE, &script);
    };
    in_child("a_file_that_is_no_library", named, || {
        assert_every_call_says(CudaError::SharedObjectInitFailed);
        let error = fused_lora_libcuda::load().unwrap_err().to_string();
        assert!(error.contains("invalid ELF header") && error.contains("link/lib64/libcuda.so"), "{error}");
    });
}

/// The one test that calls a real driver, where there is one.
#[test]
fn this_machine_as_it_is() {
    in_child(
        "this_machine_as_it_is",
        |_| {},
        || match fused_lora_libcuda::load() {
            Ok(()) => {
                assert!(cust::CudaApiVersion::get().expect("works before cuInit").major() >= 11);
                match cust::init(CudaFlags::empty()) {
                    Ok(()) => assert!(cust::device::Device::num_devices().is_ok()),
                    Err(error) => assert_eq!(error, CudaError::NoDevice),
                }
            }
            Err(error) => {
                assert!(error.to_string().contains("libcuda.so.1"), "{error}");
                assert_every_call_says(CudaError::SharedObjectInitFailed);
            }
        },
    );
}

#[test]
fn the_version_of_the_library_is_asked_for_first() {
    let files = [("libcuda.so.1", File::Driver(Driver::Current)), ("libcuda.so", File::Broken)];
    with_folder("the_version_of_the_library_is_asked_for_first", &files, || {
        assert_eq!(fused_lora_libcuda::load(), Ok(()));
        assert!(fused_lora_libcuda::is_available());
        assert_eq!(cust::CudaApiVersion::get().unwrap().minor(), 34);
    });
}

#[test]
fn the_name_without_a_version_is_next() {
    let files = [("libcuda.so.1", File::Broken), ("libcuda.so", File::Driver(Driver::Current))];
    with_folder("the_name_without_a_version_is_next", &files, || {
        assert_eq!(cust::CudaApiVersion::get().unwrap().minor(), 34);
        assert_eq!(fused_lora_libcuda::load(), Ok(()));
    });
}

#[test]
fn the_first_of_two_failures_is_told() {
    let files = [("libcuda.so.1", File::Broken), ("libcuda.so", File::Broken)];
    with_folder("the_first_of_two_failures_is_told", &files, || {
        let LoadError::Open { library, .. } = fused_lora_libcuda::load().unwrap_err() else { panic!() };
        assert_eq!(library, "libcuda.so.1");
    });
}

#[test]
fn an_empty_variable_is_an_unset_one() {
    let files = [("libcuda.so.1", File::Driver(Driver::Current))];
    with_folder("an_empty_variable_is_an_unset_one", &files, || {
        // SAFETY: one test in this process, and no other thread reads the environment.
        unsafe { std::env::set_var(LIBRARY_VARIABLE, "") };
        assert_eq!(fused_lora_libcuda::load(), Ok(()));
        assert_eq!(cust::CudaApiVersion::get().unwrap().minor(), 34);
    });
}

#[test]
fn the_choice_is_made_once() {
    with_driver("the_choice_is_made_once", Driver::Current, || {
        assert_eq!(fused_lora_libcuda::load(), Ok(()));
        // SAFETY: one test in this process, and no other thread reads the environment.
        unsafe { std::env::set_var(LIBRARY_VARIABLE, "/nowhere") };
        assert_eq!(fused_lora_libcuda::load(), Ok(()));
        cust::init(CudaFlags::empty()).unwrap();
    });
}

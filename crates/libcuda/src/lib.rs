//! The CUDA driver, found when it is first called: one binary that starts with and without `libcuda.so.1`.
//!
//! [`cust`] links the driver's library the plain way. A binary built so needs that library to be linked at
//! all, and does not start on a machine without a driver. This crate defines every driver function that
//! `cust_raw` declares (`cuInit`, `cuLaunchKernel`, …, 353 of them), and three of later drivers
//! (`cuLaunchKernelEx`, `cuOccupancyMaxActiveClusters`, `cuTensorMapEncodeTiled`; whoever calls them declares
//! them), as a trampoline. The first call of any of them opens `libcuda.so.1`, the first call of each looks its name up, and from then on a call costs one
//! more indirect jump. What cannot be had is an error code, never a panic:
//!
//! | what is missing | every call returns |
//! |---|---|
//! | the driver's library, or one that cannot be opened | [`DRIVER_NOT_LOADED`], 303 |
//! | one function, in a driver older than it | [`FUNCTION_NOT_FOUND`], 500 |
//!
//! `cuGetErrorString` alone answers without a driver, because `cust`'s `CudaError` calls it in its `Display`
//! and an error there panics in `to_string`.
//!
//! # Using it
//!
//! Depend on this crate beside `cust`, and name it in the code: a call of [`load`] does, so does `use
//! fused_lora_libcuda as _;`. A crate that is never named is not linked. Whoever forgets it reads `undefined
//! symbol: cuInit` from the linker. That is all: libraries, executables, tests, benches, doctests and
//! `cdylib`s that depend on the naming crate get the trampolines with it, and none exports them.
//!
//! `cust`'s build scripts want a folder with the driver's library and panic without one. `.cargo/config.toml`
//! of this workspace names `link/` in this crate, whose `lib64/libcuda.so` is an empty linker script:
//!
//! ```toml
//! [env]
//! CUDA_LIBRARY_PATH = { value = "crates/libcuda/link", relative = true }
//! ```
//!
//! A `CUDA_LIBRARY_PATH` from the environment goes before it. With a CUDA toolkit's stub there, the
//! trampolines are linked all the same: they come before `-lcuda` on the linker's command line, and rustc's
//! `--as-needed` drops a library that nothing needs any more.
//!
//! # Which library
//!
//! `libcuda.so.1`, then `libcuda.so`, where the dynamic loader looks. The environment variable
//! [`LIBRARY_VARIABLE`] names another file, and then no other is tried. The choice is made once in a process,
//! and the library is never closed.
//!
//! # Where
//!
//! Linux on x86-64 and aarch64. Elsewhere there are no trampolines and [`load`] returns
//! [`LoadError::UnsupportedTarget`].
//!
//! [`cust`]: https://docs.rs/cust/0.3.2

#![deny(missing_docs)]

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod driver;
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "unsupported.rs"]
mod driver;
mod error;

pub use error::LoadError;

/// The `CUresult` of every function while the driver's library is not loaded:
/// `CUDA_ERROR_SHARED_OBJECT_INIT_FAILED`, in `cust` `CudaError::SharedObjectInitFailed`.
///
/// `CUDA_ERROR_NO_DEVICE` would read as well, but is what `cuInit` returns where a driver is installed and
/// finds no GPU. `cust` 0.3.2 does not know `CUDA_ERROR_STUB_LIBRARY` and makes `UnknownError` of it.
pub const DRIVER_NOT_LOADED: u32 = 303;

/// The `CUresult` of a function that the loaded driver does not have: `CUDA_ERROR_NOT_FOUND`, which
/// `cuGetProcAddress` returns for such a name too. In `cust` it is `CudaError::NotFound`.
pub const FUNCTION_NOT_FOUND: u32 = 500;

/// Environment variable with the path of the library to load in place of `libcuda.so.1`. Empty counts as
/// unset.
pub const LIBRARY_VARIABLE: &str = "FUSED_LORA_LIBCUDA";

/// Loads the driver's library unless that was tried before, and says what came of it.
///
/// Nothing needs this before the driver is called: the trampolines load it themselves. It tells why there is
/// no driver, which a `CUresult` cannot.
///
/// # Errors
///
/// The library was not found or cannot be opened, with the dynamic loader's words. Later calls return the
/// same.
pub fn load() -> Result<(), LoadError> {
    driver::load()
}

/// Whether the driver's library is there and can be opened. Says nothing of devices: that is `cuInit`'s task.
pub fn is_available() -> bool {
    load().is_ok()
}

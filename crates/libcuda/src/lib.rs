//! The CUDA driver's functions that `cust` links, so that a program with `cust` starts without a driver.
//!
//! [`cust`](https://docs.rs/cust/0.3.2) links the driver's library the plain way: a program with it does not
//! start on a machine without a driver. This crate defines the functions instead. Each looks its namesake up
//! in the driver's library when it is first called, and calls it. What cannot be had is an error code:
//!
//! | what is missing | every call returns |
//! |---|---|
//! | the driver's library, or one that cannot be opened | [`DRIVER_NOT_LOADED`], 303 |
//! | one function, in a driver older than it | [`FUNCTION_NOT_FOUND`], 500 |
//!
//! Results that `cust`'s enum does not have, of a newer driver, become [`UNKNOWN`], 999: a value outside of
//! an enum would be undefined behaviour. `cuGetErrorString` has a text for every code without a driver, too,
//! since `cust`'s `CudaError::to_string` panics where it fails.
//!
//! # Using it
//!
//! Depend on this crate beside `cust`, and name it in the code: `use fused_lora_libcuda as _;`. A crate that
//! is never named is not linked, and the linker then misses `cuInit`. `cust`'s build script wants a folder
//! with the driver's library: `.cargo/config.toml` of this workspace names `link/` in this crate, which holds
//! an empty linker script.
//!
//! # Which library
//!
//! `libcuda.so.1`, then `libcuda.so`, where the dynamic loader looks; or the one that [`LIBRARY_VARIABLE`]
//! names. It is loaded once and never closed. The crate is empty anywhere but on Linux with x86-64 or
//! aarch64.

#![deny(missing_docs)]
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod table;

use std::{
    env,
    error::Error as _,
    ffi::{CStr, OsString, c_char},
    sync::OnceLock,
};

use libloading::Library;
use table::{P, for_each_function};

/// `CUDA_ERROR_SHARED_OBJECT_INIT_FAILED`, in `cust` `CudaError::SharedObjectInitFailed`: there is no
/// library. (`CUDA_ERROR_NO_DEVICE` is what `cuInit` returns where a driver finds no GPU.)
pub const DRIVER_NOT_LOADED: u32 = 303;

/// `CUDA_ERROR_NOT_FOUND`: the library does not have the function.
pub const FUNCTION_NOT_FOUND: u32 = 500;

/// `CUDA_ERROR_UNKNOWN`: a result that `cust` does not know.
pub const UNKNOWN: u32 = 999;

/// Names the library to load. Empty is as good as unset.
pub const LIBRARY_VARIABLE: &str = "FUSED_LORA_LIBCUDA";

/// Loads the driver's library, unless that was tried before. Nothing needs this: it tells why there is none.
///
/// # Errors
///
/// The first name that was tried, with the dynamic loader's words.
pub fn load() -> Result<(), &'static str> {
    library().map(|_| ())
}

fn library() -> Result<&'static Library, &'static str> {
    static LIBRARY: OnceLock<Result<Library, String>> = OnceLock::new();
    let load = || match env::var_os(LIBRARY_VARIABLE) {
        Some(path) if !path.is_empty() => open(path),
        _ => open("libcuda.so.1".into()).or_else(|error| open("libcuda.so".into()).map_err(|_| error)),
    };
    LIBRARY.get_or_init(load).as_ref().map_err(String::as_str)
}

fn open(name: OsString) -> Result<Library, String> {
    // SAFETY: this runs the library's initialisers. The library is the one that the system has under the
    // driver's name, or the one that the user named as the driver.
    unsafe { Library::new(&name) }.map_err(|error| {
        // libloading itself says only that dlopen failed; the dynamic loader's message is the source.
        let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        format!("cannot load the CUDA driver's library `{}`: {reason}", name.display())
    })
}

/// The function of this name; or the code to return in its place.
///
/// # Safety
///
/// `F` is the type of that function.
unsafe fn look_up<F: Copy>(name: &str) -> Result<F, u32> {
    let library = library().map_err(|_| DRIVER_NOT_LOADED)?;
    // SAFETY: the caller's contract, and the library is never closed.
    unsafe { library.get::<F>(name) }.map(|function| *function).map_err(|_| FUNCTION_NOT_FOUND)
}

/// What a function that `cust_raw` declares returns: the driver's result, if `CUresult` there has it.
fn cust(result: u32) -> u32 {
    match result {
        0..=8 | 34 | 100..=102 | 200..=202 | 205..=224 | 300..=304 | 400 | 401 | 500 | 600 => result,
        700..=705 | 708..=720 | 800..=809 | 900..=911 => result,
        _ => UNKNOWN,
    }
}

/// What a later function returns: whoever declares it takes any number.
fn later(result: u32) -> u32 {
    result
}

macro_rules! define {
    (@function $group:ident cuGetErrorString $($rest:tt)*) => {};
    // Gives the arguments names, one after another.
    (@function $group:ident $name:ident [$x:ident $($xs:ident)*] [$($named:tt)*] $type:ty $(, $rest:ty)*) => {
        define!(@function $group $name [$($xs)*] [$($named)* ($x: $type)] $($rest),*);
    };
    (@function $group:ident $name:ident [$($xs:ident)*] [$(($argument:ident: $type:ty))*]) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> u32 {
            type Function = unsafe extern "C" fn($($type),*) -> u32;
            static FUNCTION: OnceLock<Result<Function, u32>> = OnceLock::new();
            // SAFETY: the type is the function's; the test compares it with what `cust` declares.
            match FUNCTION.get_or_init(|| unsafe { look_up(stringify!($name)) }) {
                // SAFETY: what the function asks of its arguments is the caller's contract.
                Ok(function) => $group(unsafe { function($($argument),*) }),
                Err(code) => *code,
            }
        }
    };
    ($($group:ident { $($name:ident($($type:ty),*);)* })*) => {
        $(define!(@group $group $($name($($type),*))*);)*
    };
    (@group $group:ident $($name:ident($($type:ty),*))*) => {
        $(define!(@function $group $name [a b c d e f g h i j k l] [] $($type),*);)*
    };
}
for_each_function!(define);

/// The driver's, where it has a text.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuGetErrorString(error: u32, text: P) -> u32 {
    type Function = unsafe extern "C" fn(u32, P) -> u32;
    // SAFETY: the type is the function's.
    if let Ok(function) = unsafe { look_up::<Function>("cuGetErrorString") } {
        // SAFETY: what it asks of its arguments is the caller's contract.
        return cust(unsafe { function(error, text) });
    }
    let message: &CStr = match error {
        0 => c"no error",
        DRIVER_NOT_LOADED => c"the CUDA driver's library is not loaded",
        FUNCTION_NOT_FOUND => c"not found",
        _ => c"an error that there is no CUDA driver to describe",
    };
    if text.is_null() {
        return 1; // CUDA_ERROR_INVALID_VALUE
    }
    // SAFETY: not null, checked above, and valid for a write of a pointer by the caller's contract.
    unsafe { text.cast::<*const c_char>().write(message.as_ptr()) };
    0
}

#[cfg(test)]
mod tests {
    use cust::sys;

    use super::*;

    /// What the calling convention knows of a function's arguments: their bytes, and which are floats.
    trait Arguments {
        fn list(self) -> Vec<(usize, bool)>;
    }

    macro_rules! arguments {
        ($($($type:ident)*;)*) => {$(
            impl<R, $($type),*> Arguments for unsafe extern "C" fn($($type),*) -> R {
                fn list(self) -> Vec<(usize, bool)> {
                    vec![$((size_of::<$type>(), std::any::type_name::<$type>().starts_with('f'))),*]
                }
            }
        )*};
    }
    arguments!(; A; A B; A B C; A B C D; A B C D E; A B C D E F; A B C D E F G H I J K;);

    macro_rules! compare {
        (@any $type:ty) => { _ };
        (cust { $($name:ident($($type:ty),*);)* } later $later:tt) => {$(
            let declared: unsafe extern "C" fn($(compare!(@any $type)),*) -> sys::CUresult = sys::$name;
            let defined: unsafe extern "C" fn($($type),*) -> u32 = super::$name;
            assert_eq!(defined.list(), declared.list(), stringify!($name));
        )*};
    }

    #[test]
    fn functions_take_what_cust_passes() {
        for_each_function!(compare);
    }

    #[test]
    fn results_that_cust_does_not_know_become_unknown() {
        // A device that another process holds, and one that needs a newer driver.
        assert_eq!([46, 36, 721, 912, 1000, u32::MAX].map(super::cust), [UNKNOWN; 6]);
        assert_eq!([0, 2, 100, 303, 500, 719, 999].map(super::cust), [0, 2, 100, 303, 500, 719, 999]);
    }
}

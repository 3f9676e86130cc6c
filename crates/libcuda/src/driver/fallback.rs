//! What is called in place of a function that cannot be had.
//!
//! These are reached with the arguments of any driver function. In both calling conventions (System V x86-64,
//! AAPCS64) the caller places and removes the arguments, so a function may ignore those that it does not
//! name.

use std::ffi::{CStr, c_char, c_void};

use crate::{DRIVER_NOT_LOADED, FUNCTION_NOT_FOUND};

/// Stands for every function while there is no library.
pub(crate) extern "C" fn driver_not_loaded() -> u32 {
    DRIVER_NOT_LOADED
}

/// Stands for a function that the loaded driver lacks.
pub(crate) extern "C" fn function_not_found() -> u32 {
    FUNCTION_NOT_FOUND
}

/// `cuGetErrorString` without a driver. Unlike the driver's it has a text for every code: an error here would
/// make `cust::CudaError::to_string` panic.
///
/// # Safety
///
/// `text` is null or valid for a write of a pointer.
pub(crate) unsafe extern "C" fn error_string(error: u32, text: *mut *const c_char) -> u32 {
    const SUCCESS: u32 = 0;
    const INVALID_VALUE: u32 = 1;
    if text.is_null() {
        return INVALID_VALUE;
    }
    let message: &CStr = match error {
        SUCCESS => c"no error",
        DRIVER_NOT_LOADED => c"the CUDA driver's library is not loaded",
        FUNCTION_NOT_FOUND => c"not found",
        _ => c"an error that there is no CUDA driver to describe",
    };
    // SAFETY: not null, checked above; valid for a write by this function's contract.
    unsafe { text.write(message.as_ptr()) };
    SUCCESS
}

/// The address to call for `name` while `library_is_loaded` says which of the two is missing, library or
/// function.
pub(crate) fn address(name: &CStr, library_is_loaded: bool) -> *const c_void {
    match (name.to_bytes(), library_is_loaded) {
        (b"cuGetErrorString", _) => error_string as *const c_void,
        (_, false) => driver_not_loaded as *const c_void,
        (_, true) => function_not_found as *const c_void,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(error: u32) -> String {
        let mut text = std::ptr::null();
        // SAFETY: a local is valid for the write.
        let result = unsafe { error_string(error, &mut text) };
        assert_eq!(result, 0);
        // SAFETY: success stands for a static C string in `text`.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }

    #[test]
    fn every_code_has_a_text() {
        assert_eq!(text_of(0), "no error");
        assert!(text_of(DRIVER_NOT_LOADED).contains("not loaded"));
        assert_eq!(text_of(FUNCTION_NOT_FOUND), "not found");
        for code in [1, 2, 100, 719, 999, u32::MAX] {
            assert!(text_of(code).contains("no CUDA driver to describe"), "{code}");
        }
    }

    #[test]
    fn a_null_place_for_the_text_is_an_invalid_value() {
        // SAFETY: null is allowed.
        assert_eq!(unsafe { error_string(0, std::ptr::null_mut()) }, 1);
    }

    #[test]
    fn the_fallback_depends_on_what_is_missing() {
        assert_eq!(address(c"cuInit", false), driver_not_loaded as *const c_void);
        assert_eq!(address(c"cuInit", true), function_not_found as *const c_void);
        for loaded in [false, true] {
            assert_eq!(address(c"cuGetErrorString", loaded), error_string as *const c_void);
        }
    }
}

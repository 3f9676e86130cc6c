//! `cuGetProcAddress`: functions by name.

use std::ffi::{CStr, c_char, c_void};

use super::{context, copy, device, error, event, function, graph, memory, module, pinned, stream};
use crate::{
    code::{Code, Outcome},
    entry::{exports, store},
};

/// `CU_GET_PROC_ADDRESS_SUCCESS` and `..._SYMBOL_NOT_FOUND`.
const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

/// The newest version of a function, by its name without a version.
fn address(name: &str) -> Option<*const c_void> {
    let tables = [
        context::TABLE,
        copy::TABLE,
        device::TABLE,
        error::TABLE,
        event::TABLE,
        function::TABLE,
        graph::TABLE,
        memory::TABLE,
        module::TABLE,
        pinned::TABLE,
        stream::TABLE,
        TABLE,
    ];
    let find =
        |name: &str| tables.iter().copied().flatten().find(|entry| entry.0 == name).map(|entry| entry.1);
    find(&format!("{name}_v2")).or_else(|| find(name))
}

/// # Safety
///
/// `name` is null or NUL-terminated, `to` null or valid for a write.
unsafe fn look_up(name: *const c_char, to: *mut *const c_void) -> Outcome {
    if name.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Code::NOT_FOUND)?;
    let address = address(name);
    // SAFETY: the caller's.
    unsafe { store(to, address.unwrap_or(std::ptr::null()))? };
    address.map(|_| ()).ok_or(Code::NOT_FOUND)
}

exports! {
    /// The version asked for does not matter.
    fn cuGetProcAddress(_driver, name: *const c_char, to: *mut *const c_void, _version: i32, _flags: u64)
        needs Nothing
    {
        // SAFETY: the caller's.
        unsafe { look_up(name, to) }
    }

    /// As above.
    fn cuGetProcAddress_v2(
        _driver,
        name: *const c_char,
        to: *mut *const c_void,
        _version: i32,
        _flags: u64,
        status: *mut u32,
    ) needs Nothing {
        // SAFETY: the caller's.
        let result = unsafe { look_up(name, to) };
        if !status.is_null() {
            // SAFETY: the caller's.
            unsafe { store(status, if result.is_ok() { FOUND } else { NOT_FOUND })? };
        }
        result
    }
}

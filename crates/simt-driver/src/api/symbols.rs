//! `cuGetProcAddress`: functions by name.

use std::ffi::{CStr, c_char, c_void};

use super::{
    context, copy, device, error, event, function, graph, launch, memory, module, occupancy, pinned, stream,
    tensor_map,
};
use crate::{
    code::{Code, Outcome},
    driver::Driver,
    entry::{exports, store},
};

/// `CU_GET_PROC_ADDRESS_SUCCESS` and `..._SYMBOL_NOT_FOUND`.
const FOUND: u32 = 0;
const NOT_FOUND: u32 = 1;

/// Functions that came after CUDA 11.0, with the version of the first driver that has them.
const SINCE: &[(&str, u32)] = &[
    ("cuLaunchKernelEx", 11_060),
    ("cuOccupancyMaxActiveClusters", 11_070),
    ("cuTensorMapEncodeTiled", 12_000),
];

/// The version of the first driver that has a function.
pub(crate) fn since(function: &str) -> u32 {
    SINCE.iter().find(|(name, _)| *name == function).map_or(0, |(_, version)| *version)
}

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
        launch::TABLE,
        memory::TABLE,
        module::TABLE,
        occupancy::TABLE,
        pinned::TABLE,
        stream::TABLE,
        tensor_map::TABLE,
        TABLE,
    ];
    let find =
        |name: &str| tables.iter().copied().flatten().find(|entry| entry.0 == name).map(|entry| entry.1);
    find(&format!("{name}_v2")).or_else(|| find(name))
}

/// # Safety
///
/// `name` is null or NUL-terminated, `to` null or valid for a write.
unsafe fn look_up(driver: &Driver, name: *const c_char, to: *mut *const c_void) -> Outcome {
    if name.is_null() {
        return Err(Code::INVALID_VALUE);
    }
    // SAFETY: the caller's.
    let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Code::NOT_FOUND)?;
    let address = address(name).filter(|_| since(name) <= driver.config.driver_version);
    // SAFETY: the caller's.
    unsafe { store(to, address.unwrap_or(std::ptr::null()))? };
    address.map(|_| ()).ok_or(Code::NOT_FOUND)
}

exports! {
    /// The version asked for does not matter.
    fn cuGetProcAddress(driver, name: *const c_char, to: *mut *const c_void, _version: i32, _flags: u64)
        needs Nothing
    {
        // SAFETY: the caller's.
        unsafe { look_up(driver, name, to) }
    }

    /// As above.
    fn cuGetProcAddress_v2(
        driver,
        name: *const c_char,
        to: *mut *const c_void,
        _version: i32,
        _flags: u64,
        status: *mut u32,
    ) needs Nothing {
        // SAFETY: the caller's.
        let result = unsafe { look_up(driver, name, to) };
        if !status.is_null() {
            // SAFETY: the caller's.
            unsafe { store(status, if result.is_ok() { FOUND } else { NOT_FOUND })? };
        }
        result
    }
}

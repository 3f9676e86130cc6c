//! Error handling, initialisation, version.

use std::ffi::c_char;

use crate::{
    code::{self, Code},
    entry::{exports, store},
};

exports! {
    fn cuGetErrorName(_driver, number: u32, to: *mut *const c_char) needs Nothing {
        let name = code::name(number).ok_or(Code::INVALID_VALUE)?;
        // SAFETY: the caller's.
        unsafe { store(to, name.as_ptr()) }
    }

    fn cuGetErrorString(_driver, number: u32, to: *mut *const c_char) needs Nothing {
        let text = code::text(number).ok_or(Code::INVALID_VALUE)?;
        // SAFETY: the caller's.
        unsafe { store(to, text.as_ptr()) }
    }

    fn cuInit(driver, flags: u32) needs Nothing {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        driver.initialise()
    }

    fn cuDriverGetVersion(driver, to: *mut i32) needs Nothing {
        // SAFETY: the caller's.
        unsafe { store(to, driver.config.driver_version as i32) }
    }
}

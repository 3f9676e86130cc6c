//! Error handling, initialisation, version.

use std::ffi::c_char;

use crate::{
    code::{self, Code},
    entry::{Out, exports},
};

exports! {
    fn cuGetErrorName(_driver, number: u32, to: Out<*const c_char>) needs Nothing {
        let name = code::name(number).ok_or(Code::INVALID_VALUE)?;
        to.set(name.as_ptr())
    }

    fn cuGetErrorString(_driver, number: u32, to: Out<*const c_char>) needs Nothing {
        let text = code::text(number).ok_or(Code::INVALID_VALUE)?;
        to.set(text.as_ptr())
    }

    fn cuInit(driver, flags: u32) needs Nothing {
        if flags != 0 {
            return Err(Code::INVALID_VALUE);
        }
        driver.initialise()
    }

    fn cuDriverGetVersion(driver, to: Out<i32>) needs Nothing {
        to.set(driver.config.driver_version as i32)
    }
}

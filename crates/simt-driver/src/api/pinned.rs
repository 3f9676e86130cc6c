//! Page-locked host memory.

use std::ffi::c_void;

use crate::{
    code::{Code, Outcome},
    driver::Driver,
    entry::{exports, store},
};

impl Driver {
    fn allocate_pinned(&mut self, to: *mut *mut c_void, bytes: usize) -> Outcome {
        self.forbid_unsafe()?;
        if to.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let pointer = self.pinned.allocate(bytes)?;
        // SAFETY: the contract of the exported functions, which are the only callers.
        unsafe { store(to, pointer.cast()) }
    }
}

exports! {
    fn cuMemAllocHost_v2(driver, to: *mut *mut c_void, bytes: usize) needs Health {
        driver.allocate_pinned(to, bytes)
    }

    /// No flag makes it visible to kernels.
    fn cuMemHostAlloc(driver, to: *mut *mut c_void, bytes: usize, _flags: u32) needs Health {
        driver.allocate_pinned(to, bytes)
    }

    /// Waits for everything first: a copy may be about to use it.
    fn cuMemFreeHost(driver, pointer: *mut c_void) needs Health {
        driver.forbid_unsafe()?;
        driver.finish_all()?;
        driver.pinned.free(pointer.cast())
    }

    fn cuMemHostRegister_v2(driver, pointer: *mut c_void, bytes: usize, _flags: u32) needs Health {
        driver.forbid_unsafe()?;
        driver.pinned.register(pointer.addr(), bytes)
    }

    fn cuMemHostUnregister(driver, pointer: *mut c_void) needs Health {
        driver.forbid_unsafe()?;
        driver.finish_all()?;
        driver.pinned.unregister(pointer.addr())
    }
}

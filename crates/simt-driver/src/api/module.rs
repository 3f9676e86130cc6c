//! Modules and their functions' names.

use std::ffi::{CStr, c_char, c_void};

use crate::{
    code::{Code, Handle, Outcome},
    config::SHARED_WITHOUT_OPT_IN,
    driver::{Driver, Function, Module},
    entry::{Out, exports},
    kernel::Entry,
    module::Image,
};

/// `CU_JIT_ERROR_LOG_BUFFER` and `CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES`.
const ERROR_LOG: u32 = 5;
const ERROR_LOG_SIZE: u32 = 6;

/// Where the JIT writes what is wrong.
struct ErrorLog {
    buffer: *mut u8,
    bytes: usize,
}

impl ErrorLog {
    /// # Safety
    ///
    /// `options` and `values` are valid for reads of `count` elements, and an error log among them for
    /// writes.
    unsafe fn new(count: u32, options: *const u32, values: *const *mut c_void) -> Self {
        let mut log = Self { buffer: std::ptr::null_mut(), bytes: 0 };
        if options.is_null() || values.is_null() {
            return log;
        }
        for i in 0..count as usize {
            // SAFETY: the caller's.
            match unsafe { (options.add(i).read(), values.add(i).read()) } {
                (ERROR_LOG, value) => log.buffer = value.cast(),
                (ERROR_LOG_SIZE, value) => log.bytes = value.addr(),
                _ => {}
            }
        }
        log
    }

    fn write(&self, text: &str) {
        if self.buffer.is_null() || self.bytes == 0 {
            return;
        }
        let n = text.len().min(self.bytes - 1);
        // SAFETY: the contract of `new`, and n + 1 is within its size.
        unsafe {
            std::ptr::copy_nonoverlapping(text.as_ptr(), self.buffer, n);
            self.buffer.add(n).write(0);
        }
    }
}

/// # Safety
///
/// As for [`Image::from_pointer`].
unsafe fn load(driver: &mut Driver, to: Out<Handle>, image: *const c_void, log: Option<ErrorLog>) -> Outcome {
    driver.forbid_unsafe()?;
    // SAFETY: the caller's.
    let image = unsafe { Image::from_pointer(image)? };
    let image =
        driver.images.load(&image, &driver.device, driver.config.driver_version).map_err(|rejection| {
            eprintln!("fused-lora-simt-driver: module not loaded: {}", rejection.reason);
            if let Some(log) = log {
                log.write(&rejection.reason);
            }
            rejection.code
        })?;
    let context = driver.current()?;
    let handle = driver.new_handle();
    to.set(handle)?;
    driver.modules.insert(handle, Module { context, image });
    Ok(())
}

exports! {
    fn cuModuleLoadData(driver, to: Out<Handle>, image: *const c_void) needs Health {
        // SAFETY: the caller's.
        unsafe { load(driver, to, image, None) }
    }

    /// Of the options only the error log does something.
    fn cuModuleLoadDataEx(
        driver,
        to: Out<Handle>,
        image: *const c_void,
        count: u32,
        options: *mut u32,
        values: *mut *mut c_void,
    ) needs Health {
        // SAFETY: the caller's.
        unsafe {
            let log = ErrorLog::new(count, options, values);
            load(driver, to, image, Some(log))
        }
    }

    fn cuModuleUnload(driver, module: Handle) needs Health {
        driver.forbid_unsafe()?;
        driver.modules.remove(&module).ok_or(Code::INVALID_HANDLE)?;
        driver.functions.retain(|_, function| function.module != module);
        Ok(())
    }

    /// The same handle every time, as attributes belong to the function.
    fn cuModuleGetFunction(driver, to: Out<Handle>, module: Handle, name: *const c_char) needs Health {
        if name.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        // SAFETY: the caller's.
        let name = unsafe { CStr::from_ptr(name) }.to_bytes();
        let loaded = driver.modules.get(&module).ok_or(Code::INVALID_HANDLE)?;
        let entry = Entry::of(&loaded.image, name).ok_or(Code::NOT_FOUND)?;
        let known = driver
            .functions
            .iter()
            .find(|(_, function)| function.module == module && function.entry.name().as_bytes() == name)
            .map(|(&handle, _)| handle);
        let handle = known.unwrap_or_else(|| {
            let handle = driver.new_handle();
            let function = Function { module, entry, dynamic_shared_limit: SHARED_WITHOUT_OPT_IN };
            driver.functions.insert(handle, function);
            handle
        });
        to.set(handle)
    }
}

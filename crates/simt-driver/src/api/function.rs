//! Functions: attributes.

use crate::{
    code::{Code, Outcome},
    driver::{Driver, Function, Handle},
    entry::{exports, store},
};

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES` and `..._PREFERRED_SHARED_MEMORY_CARVEOUT`.
const MAX_DYNAMIC_SHARED: u32 = 8;
const CARVEOUT: u32 = 9;

impl Driver {
    pub(super) fn function(&mut self, handle: Handle) -> Outcome<&mut Function> {
        self.functions.get_mut(&handle).ok_or(Code::INVALID_HANDLE)
    }
}

exports! {
    fn cuFuncGetAttribute(driver, to: *mut i32, attribute: u32, function: Handle) needs Health {
        let capability = driver.device.capability;
        let Function { entry, dynamic_shared_limit, carveout, .. } = driver.function(function)?;
        let value = match attribute {
            0 => entry.threads() as i32,       // MAX_THREADS_PER_BLOCK
            1 | 2 | 3 | 7 => 0,               // SHARED_SIZE_BYTES (static), CONST, LOCAL, CACHE_MODE_CA
            4 => entry.registers() as i32,     // NUM_REGS
            5 => 80,                          // PTX_VERSION
            6 => (10 * capability.0 + capability.1) as i32, // BINARY_VERSION
            MAX_DYNAMIC_SHARED => *dynamic_shared_limit as i32,
            CARVEOUT => *carveout,
            _ => return Err(Code::INVALID_VALUE),
        };
        // SAFETY: the caller's.
        unsafe { store(to, value) }
    }

    fn cuFuncSetAttribute(driver, function: Handle, attribute: u32, value: i32) needs Health {
        let limit = driver.device.shared_opt_in;
        let function = driver.function(function)?;
        match (attribute, u32::try_from(value)) {
            (MAX_DYNAMIC_SHARED, Ok(bytes)) if bytes <= limit => function.dynamic_shared_limit = bytes,
            (CARVEOUT, _) if (-1..=100).contains(&value) => function.carveout = value,
            _ => return Err(Code::INVALID_VALUE),
        }
        Ok(())
    }

    fn cuFuncSetCacheConfig(driver, function: Handle, _config: u32) needs Health {
        driver.function(function).map(|_| ())
    }

    fn cuFuncSetSharedMemConfig(driver, function: Handle, _config: u32) needs Health {
        driver.function(function).map(|_| ())
    }
}

//! Contexts, primary and made.

use crate::{
    code::Code,
    current,
    driver::Handle,
    entry::{exports, store},
};

/// `CU_LIMIT_STACK_SIZE` and the limits after it.
const LIMITS: u32 = 7;

exports! {
    fn cuDevicePrimaryCtxRetain(driver, to: *mut Handle, device: i32) needs Init {
        let handle = driver.primary[driver.ordinal(device)? as usize];
        let context = driver.contexts.get_mut(&handle).ok_or(Code::INVALID_CONTEXT)?;
        // SAFETY: the caller's.
        unsafe { store(to, handle)? };
        context.retained += 1;
        Ok(())
    }

    fn cuDevicePrimaryCtxRelease_v2(driver, device: i32) needs Init {
        let handle = driver.primary[driver.ordinal(device)? as usize];
        let context = driver.contexts.get_mut(&handle).ok_or(Code::INVALID_CONTEXT)?;
        match context.retained {
            0 => Err(Code::INVALID_CONTEXT),
            1 => driver.close_context(handle),
            _ => {
                context.retained -= 1;
                Ok(())
            }
        }
    }

    fn cuDevicePrimaryCtxReset_v2(driver, device: i32) needs Init {
        let handle = driver.primary[driver.ordinal(device)? as usize];
        let retained = driver.contexts.get(&handle).map_or(0, |context| context.retained);
        let result = driver.close_context(handle);
        // Whoever retained it still does.
        if let Some(context) = driver.contexts.get_mut(&handle) {
            context.retained = retained;
        }
        result
    }

    fn cuDevicePrimaryCtxSetFlags_v2(driver, device: i32, flags: u32) needs Init {
        let handle = driver.primary[driver.ordinal(device)? as usize];
        driver.contexts.get_mut(&handle).ok_or(Code::INVALID_CONTEXT)?.flags = flags;
        Ok(())
    }

    fn cuDevicePrimaryCtxGetState(driver, device: i32, flags: *mut u32, active: *mut i32) needs Init {
        let handle = driver.primary[driver.ordinal(device)? as usize];
        let context = driver.contexts.get(&handle).ok_or(Code::INVALID_CONTEXT)?;
        // SAFETY: the caller's.
        unsafe {
            store(flags, context.flags)?;
            store(active, i32::from(context.retained > 0))
        }
    }

    fn cuCtxCreate_v2(driver, to: *mut Handle, flags: u32, device: i32) needs Init {
        let device = driver.ordinal(device)?;
        if to.is_null() {
            return Err(Code::INVALID_VALUE);
        }
        let handle = driver.add_context(device, flags, 1);
        current::push(handle);
        // SAFETY: the caller's.
        unsafe { store(to, handle) }
    }

    fn cuCtxDestroy_v2(driver, context: Handle) needs Init {
        let retained = driver.contexts.get(&context).map_or(0, |context| context.retained);
        if retained == 0 || driver.primary.contains(&context) {
            return Err(Code::INVALID_CONTEXT);
        }
        if current::get() == Some(context) {
            current::pop();
        }
        driver.close_context(context)
    }

    fn cuCtxGetCurrent(_driver, to: *mut Handle) needs Init {
        // SAFETY: the caller's.
        unsafe { store(to, current::get().unwrap_or(0)) }
    }

    fn cuCtxSetCurrent(driver, context: Handle) needs Init {
        if context != 0 && !driver.contexts.contains_key(&context) {
            return Err(Code::INVALID_CONTEXT);
        }
        current::set((context != 0).then_some(context));
        Ok(())
    }

    fn cuCtxPushCurrent_v2(driver, context: Handle) needs Init {
        if !driver.contexts.contains_key(&context) {
            return Err(Code::INVALID_CONTEXT);
        }
        current::push(context);
        Ok(())
    }

    fn cuCtxPopCurrent_v2(_driver, to: *mut Handle) needs Init {
        let context = current::pop().ok_or(Code::INVALID_CONTEXT)?;
        if to.is_null() {
            return Ok(());
        }
        // SAFETY: the caller's.
        unsafe { store(to, context) }
    }

    fn cuCtxGetDevice(driver, to: *mut i32) needs Context {
        let device = driver.current_device()?;
        // SAFETY: the caller's.
        unsafe { store(to, device as i32) }
    }

    fn cuCtxGetFlags(driver, to: *mut u32) needs Context {
        let context = driver.current()?;
        // SAFETY: the caller's.
        unsafe { store(to, driver.contexts[&context].flags) }
    }

    fn cuCtxGetApiVersion(driver, context: Handle, to: *mut u32) needs Init {
        if context != 0 && !driver.contexts.contains_key(&context) {
            return Err(Code::INVALID_CONTEXT);
        }
        // SAFETY: the caller's.
        unsafe { store(to, 3020) }
    }

    fn cuCtxGetStreamPriorityRange(_driver, least: *mut i32, greatest: *mut i32) needs Context {
        for (to, value) in [(least, 0), (greatest, -5)] {
            if !to.is_null() {
                // SAFETY: the caller's.
                unsafe { store(to, value)? };
            }
        }
        Ok(())
    }

    fn cuCtxSetLimit(driver, limit: u32, value: usize) needs Context {
        if limit >= LIMITS {
            return Err(Code::INVALID_VALUE);
        }
        let context = driver.current()?;
        if let Some(context) = driver.contexts.get_mut(&context) {
            context.limits.insert(limit, value);
        }
        Ok(())
    }

    /// A limit that was not set is 0.
    fn cuCtxGetLimit(driver, to: *mut usize, limit: u32) needs Context {
        if limit >= LIMITS {
            return Err(Code::INVALID_VALUE);
        }
        let context = driver.current()?;
        let value = driver.contexts[&context].limits.get(&limit).copied().unwrap_or(0);
        // SAFETY: the caller's.
        unsafe { store(to, value) }
    }

    fn cuCtxGetCacheConfig(_driver, to: *mut u32) needs Context {
        // SAFETY: the caller's.
        unsafe { store(to, 0) }
    }

    fn cuCtxSetCacheConfig(_driver, _config: u32) needs Context {
        Ok(())
    }

    fn cuCtxSynchronize(driver) needs Health {
        driver.forbid_unsafe()?;
        driver.finish_all()
    }
}

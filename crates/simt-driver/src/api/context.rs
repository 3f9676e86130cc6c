//! Contexts: the primary one of each device.

use crate::{
    code::{Code, Handle},
    current,
    entry::{Out, exports},
};

exports! {
    fn cuDevicePrimaryCtxRetain(driver, to: Out<Handle>, device: i32) needs Init {
        let handle = driver.primary[driver.ordinal(device)? as usize];
        let context = driver.contexts.get_mut(&handle).ok_or(Code::INVALID_CONTEXT)?;
        to.set(handle)?;
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

    /// They say how the host waits, which makes no difference here.
    fn cuDevicePrimaryCtxSetFlags_v2(driver, device: i32, _flags: u32) needs Init {
        driver.ordinal(device).map(|_| ())
    }

    fn cuCtxGetCurrent(_driver, to: Out<Handle>) needs Init {
        to.set(current::get().unwrap_or(0))
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

    fn cuCtxPopCurrent_v2(_driver, to: Out<Handle>) needs Init {
        let context = current::pop().ok_or(Code::INVALID_CONTEXT)?;
        if to.is_null() {
            return Ok(());
        }
        to.set(context)
    }

    fn cuCtxSynchronize(driver) needs Health {
        driver.forbid_unsafe()?;
        driver.finish_all()
    }
}

//! Devices.

use std::ffi::c_char;

use crate::{
    code::{Code, Outcome},
    device::Device,
    entry::{Out, exports},
};

/// Copies text and its NUL to a buffer, cut to fit.
///
/// # Safety
///
/// `to` is null or valid for writes of `length` bytes.
unsafe fn store_text(to: *mut c_char, length: i32, text: &str) -> Outcome {
    let Some(room) = usize::try_from(length).ok().filter(|&n| n > 0 && !to.is_null()) else {
        return Err(Code::INVALID_VALUE);
    };
    let n = text.len().min(room - 1);
    // SAFETY: the caller's; n + 1 <= length.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), to, n);
        to.add(n).write(0);
    }
    Ok(())
}

exports! {
    fn cuDeviceGetCount(driver, to: Out<i32>) needs Init {
        to.set(driver.config.devices as i32)
    }

    fn cuDeviceGet(driver, to: Out<i32>, ordinal: i32) needs Init {
        driver.ordinal(ordinal)?;
        to.set(ordinal)
    }

    fn cuDeviceGetName(driver, to: *mut c_char, length: i32, device: i32) needs Init {
        driver.ordinal(device)?;
        // SAFETY: the caller's.
        unsafe { store_text(to, length, Device::NAME) }
    }

    fn cuDeviceGetUuid(driver, to: Out<[u8; 16]>, device: i32) needs Init {
        let uuid = driver.device.uuid(driver.ordinal(device)?);
        to.set(uuid)
    }

    fn cuDeviceTotalMem_v2(driver, to: Out<usize>, device: i32) needs Init {
        driver.ordinal(device)?;
        to.set(driver.device.memory as usize)
    }

    fn cuDeviceGetAttribute(driver, to: Out<i32>, attribute: u32, device: i32) needs Init {
        let ordinal = driver.ordinal(device)?;
        let value = driver.device.attribute(attribute, ordinal)?;
        to.set(value as i32)
    }
}

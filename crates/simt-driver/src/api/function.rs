//! Functions: attributes.

use crate::{
    code::{Code, Handle, Outcome},
    driver::{Driver, Function},
    entry::exports,
};

/// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`.
const MAX_DYNAMIC_SHARED: u32 = 8;

impl Driver {
    pub(super) fn function(&mut self, handle: Handle) -> Outcome<&mut Function> {
        self.functions.get_mut(&handle).ok_or(Code::INVALID_HANDLE)
    }
}

exports! {
    fn cuFuncSetAttribute(driver, function: Handle, attribute: u32, value: i32) needs Health {
        let limit = driver.device.shared_opt_in;
        let function = driver.function(function)?;
        match (attribute, u32::try_from(value)) {
            (MAX_DYNAMIC_SHARED, Ok(bytes)) if bytes <= limit => function.dynamic_shared_limit = bytes,
            _ => return Err(Code::INVALID_VALUE),
        }
        Ok(())
    }
}

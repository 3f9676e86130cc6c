//! Calls of the driver.
//!
//! The functions are those that `cust::sys` declares. It declares them to return a Rust enum, and a driver
//! that is newer than the enum has results that are not in it: 46, a device that another process holds, is
//! one. A value outside of an enum is undefined behaviour, in `cust`'s own wrappers too. So [`call!`] takes
//! the result as the number that it is.

pub(super) mod ext;

use std::{
    ffi::{CStr, c_char},
    sync::OnceLock,
};

use cust::sys;

use super::error::Error;

/// A driver function, and the same with its result as a number.
pub(super) trait Numbered {
    type Function;
    fn numbered(self) -> Self::Function;
}

macro_rules! numbered {
    ($($argument:ident)*) => {
        impl<$($argument),*> Numbered for unsafe extern "C" fn($($argument),*) -> sys::CUresult {
            type Function = unsafe extern "C" fn($($argument),*) -> u32;

            fn numbered(self) -> Self::Function {
                // SAFETY: the same function; `CUresult` is `repr(u32)`, so its caller finds the result where
                // that of a u32 is, and any u32 is one.
                unsafe { std::mem::transmute(self) }
            }
        }
    };
}

numbered!();
numbered!(A);
numbered!(A B);
numbered!(A B C);
numbered!(A B C D);
numbered!(A B C D E);
numbered!(A B C D E F);
numbered!(A B C D E F G H I J K);

/// `call!(cuFunction(arguments))`: calls it and makes a `Result<(), Error>` of what it returns. Unsafe like
/// the function.
macro_rules! call {
    ($name:ident($($argument:expr),* $(,)?)) => {{
        let function: unsafe extern "C" fn(
            $($crate::cuda::driver::call!(@any $argument)),*
        ) -> cust::sys::CUresult = cust::sys::$name;
        let result = $crate::cuda::driver::Numbered::numbered(function)($($argument),*);
        $crate::cuda::driver::check(stringify!($name), result)
    }};
    (@any $argument:expr) => { _ };
}
pub(super) use call;

/// Results that mean something of their own.
pub(super) mod result {
    pub(crate) const OUT_OF_MEMORY: u32 = 2;
    pub(crate) const NO_DEVICE: u32 = 100;
    pub(crate) const UNSUPPORTED_PTX_VERSION: u32 = 222;
}

/// Success, or the driver's words.
pub(super) fn check(call: &'static str, code: u32) -> Result<(), Error> {
    if code == 0 { Ok(()) } else { Err(Error::Driver { call, code, text: text(code) }) }
}

/// What the driver says of a result.
fn text(code: u32) -> String {
    type ErrorString = unsafe extern "C" fn(sys::CUresult, *mut *const c_char) -> sys::CUresult;
    type OfNumber = unsafe extern "C" fn(u32, *mut *const c_char) -> u32;
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: as in `numbered!`, for the argument too. `text` is writable, and what a success leaves there is
    // a static C string.
    unsafe {
        let error_string = std::mem::transmute::<ErrorString, OfNumber>(sys::cuGetErrorString);
        if error_string(code, &mut text) == 0 && !text.is_null() {
            return CStr::from_ptr(text).to_string_lossy().into_owned();
        }
    }
    "a result that the driver has no words for".to_owned()
}

/// Loads and initialises the driver once, and says which CUDA version it is of.
pub(super) fn initialise() -> Result<(u32, u32), Error> {
    static VERSION: OnceLock<Result<(u32, u32), Error>> = OnceLock::new();
    VERSION
        .get_or_init(|| {
            fused_lora_libcuda::load().map_err(Error::NoDriver)?;
            let mut version = 0;
            // SAFETY: `cuInit` takes no flags yet; `version` is writable.
            unsafe {
                call!(cuInit(0)).map_err(|error| match error {
                    Error::Driver { code: result::NO_DEVICE, .. } => Error::NoDevice,
                    error => error,
                })?;
                call!(cuDriverGetVersion(&mut version))?;
            }
            let version = u32::try_from(version).unwrap_or(0);
            Ok((version / 1000, version % 1000 / 10))
        })
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_that_no_enum_knows_is_an_error_with_its_number() {
        unsafe extern "C" fn unavailable(_: u32) -> u32 {
            46
        }
        // SAFETY: as the driver does it: the function returns what the declaration's enum has not.
        let declared: unsafe extern "C" fn(u32) -> sys::CUresult =
            unsafe { std::mem::transmute(unavailable as unsafe extern "C" fn(u32) -> u32) };
        // SAFETY: it has no preconditions.
        let code = unsafe { declared.numbered()(0) };
        assert_eq!(code, 46);
        let Err(Error::Driver { call: "cuInit", code: 46, text }) = check("cuInit", code) else {
            panic!("a code other than 0 is an error");
        };
        assert!(!text.is_empty());
        assert_eq!(check("cuInit", 0), Ok(()));
    }
}

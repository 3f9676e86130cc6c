//! Calls of the driver, which is loaded when the first device is asked for.
//!
//! | module | job |
//! |---|---|
//! | [`library`] | which library is loaded |
//! | [`functions`] | the functions that are called, and what becomes of their results |
//! | [`types`] | handles and constants |
//! | [`structures`] | structures that launches on compute capability 9.0 and copies of rows need |

mod functions;
pub(super) mod library;
pub(super) mod structures;
pub(super) mod types;

use std::sync::OnceLock;

pub(super) use functions::*;
use types::result;

use super::error::Error;

/// Loads and initialises the driver once, and says which CUDA version it is of.
pub(super) fn initialise() -> Result<(u32, u32), Error> {
    static VERSION: OnceLock<Result<(u32, u32), Error>> = OnceLock::new();
    let initialise = || {
        let mut version = 0;
        // SAFETY: `cuInit` takes no flags yet; `version` is writable.
        unsafe {
            init(0).map_err(|error| match error {
                Error::Driver { code: result::NO_DEVICE, .. } => Error::NoDevice,
                error => error,
            })?;
            driver_get_version(&mut version)?;
        }
        let version = u32::try_from(version).unwrap_or(0);
        Ok((version / 1000, version % 1000 / 10))
    };
    VERSION.get_or_init(initialise).clone()
}

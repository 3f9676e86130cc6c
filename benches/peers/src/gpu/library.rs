//! The library, where it is there, and a handle of it.

use std::ptr;

use cudarc::cublaslt::sys;

/// What the library of CUDA 12 is called. That of 13 does as well, and cudarc tries other names too.
pub const NAME: &str = "libcublasLt.so.12";

/// Why the peer is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The dynamic loader does not find it.
    #[error("{NAME} not found")]
    Library,
    /// It is there, and does not start: it is for another driver, or device.
    #[error("version {version} does not start: {failed}")]
    Start {
        /// As the library counts: 120901 is 12.9.1.
        version: usize,
        /// What it said.
        failed: Failed,
    },
}

/// A call of cuBLASLt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} returned {status:?}")]
pub struct Failed {
    /// The function's name.
    pub call: &'static str,
    /// What it returned.
    pub status: sys::cublasStatus_t,
}

/// That as a result.
pub(super) fn done(call: &'static str, status: sys::cublasStatus_t) -> Result<(), Failed> {
    if status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS { Ok(()) } else { Err(Failed { call, status }) }
}

/// Whether the dynamic loader finds the library.
#[must_use]
pub fn is_present() -> bool {
    // SAFETY: loads a library of NVIDIA's, whose initialisers do nothing that this process has to prepare.
    unsafe { sys::is_culib_present() }
}

/// A handle, of the context that was current when it was made.
pub struct Handle {
    raw: sys::cublasLtHandle_t,
}

impl Handle {
    /// Loads the library, and makes a handle. A device's context has to be current.
    ///
    /// # Errors
    ///
    /// What is missing.
    pub fn new() -> Result<Handle, Missing> {
        // Without this, cudarc panics where there is no library.
        if !is_present() {
            return Err(Missing::Library);
        }
        let mut raw = ptr::null_mut();
        // SAFETY: the library is there, and `raw` is writable.
        done("cublasLtCreate", unsafe { sys::cublasLtCreate(&mut raw) })
            .map_err(|failed| Missing::Start { version: version(), failed })?;
        Ok(Handle { raw })
    }

    pub(super) fn raw(&self) -> sys::cublasLtHandle_t {
        self.raw
    }

    /// The library's version: 120901 is 12.9.1.
    #[must_use]
    pub fn version(&self) -> usize {
        version()
    }
}

fn version() -> usize {
    // SAFETY: called where the library is there; takes and touches nothing.
    unsafe { sys::cublasLtGetVersion() }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: created once, destroyed once. Nobody is there to hear of a failure.
        let _ = unsafe { sys::cublasLtDestroy(self.raw) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Missing::Library.to_string(), "libcublasLt.so.12 not found");
        let failed =
            Failed { call: "cublasLtCreate", status: sys::cublasStatus_t::CUBLAS_STATUS_NOT_INITIALIZED };
        assert_eq!(
            Missing::Start { version: 130_401, failed }.to_string(),
            "version 130401 does not start: cublasLtCreate returned CUBLAS_STATUS_NOT_INITIALIZED"
        );
    }
}

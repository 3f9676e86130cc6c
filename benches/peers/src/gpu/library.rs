//! The library, where it is there, and what it makes.

use anyhow::{anyhow, ensure};
use cudarc::cublaslt::result::{self, CublasError};
use cudarc::cublaslt::sys;

/// What the library made; destroyed by the function that belongs to its type.
pub(super) struct Owned<T: Copy> {
    pub(super) raw: T,
    destroy: unsafe fn(T) -> Result<(), CublasError>,
}

impl<T: Copy> Owned<T> {
    /// What the call of that name returned.
    pub(super) fn new(
        call: &str,
        made: Result<T, CublasError>,
        destroy: unsafe fn(T) -> Result<(), CublasError>,
    ) -> anyhow::Result<Self> {
        Ok(Owned { raw: done(call, made)?, destroy })
    }
}

impl<T: Copy> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: made once, destroyed once. Nobody is there to hear of a failure.
        let _ = unsafe { (self.destroy)(self.raw) };
    }
}

/// A handle, of the context that was current when it was made.
pub(super) type Handle = Owned<sys::cublasLtHandle_t>;

/// Loads the library, and makes a handle: a device's context has to be current. The error says why the peer
/// is left out.
pub(super) fn open() -> anyhow::Result<Handle> {
    // What the library of CUDA 12 is called. That of 13 does as well, and cudarc tries other names too.
    ensure!(is_present(), "libcublasLt.so.12 not found");
    let handle = Owned::new("cublasLtCreate", result::create_handle(), result::destroy_handle);
    handle.map_err(|failed| anyhow!("version {} does not start: {failed}", version()))
}

/// Whether the dynamic loader finds the library. Without this question, cudarc panics where there is none.
pub(super) fn is_present() -> bool {
    // SAFETY: loads a library of NVIDIA's, whose initialisers do nothing that this process has to prepare.
    unsafe { sys::is_culib_present() }
}

/// The library's version, where it is there: 120901 is 12.9.1.
pub(super) fn version() -> usize {
    // SAFETY: takes and touches nothing.
    unsafe { sys::cublasLtGetVersion() }
}

/// A failure as an error that names the call.
pub(super) fn done<T>(call: &str, result: Result<T, CublasError>) -> anyhow::Result<T> {
    result.map_err(|CublasError(status)| anyhow!("{call} returned {status:?}"))
}

//! The driver's library, opened once.

use std::error::Error;
use std::ffi::{CStr, OsStr, OsString, c_void};
use std::sync::OnceLock;

use libloading::Library;

use crate::{LIBRARY_VARIABLE, LoadError};

/// `libcuda.so.1` is what a driver installs, and what programs linked the plain way ask for. The name without
/// a version is there where a container passes in that file alone.
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

/// The driver's library; the first call opens it. Stays open until the process ends: trampolines hold
/// addresses in it.
pub(crate) fn library() -> Result<&'static Library, &'static LoadError> {
    static LIBRARY: OnceLock<Result<Library, LoadError>> = OnceLock::new();
    LIBRARY.get_or_init(open_chosen).as_ref()
}

/// The address of a function of the driver, if it has one of this name.
pub(crate) fn address(library: &Library, name: &CStr) -> Option<*const c_void> {
    // SAFETY: any symbol of a library can be read as an address; nothing is called or dereferenced through it
    // here.
    let symbol = unsafe { library.get::<*const c_void>(name.to_bytes_with_nul()) }.ok()?;
    Some(*symbol).filter(|address| !address.is_null())
}

fn open_chosen() -> Result<Library, LoadError> {
    match std::env::var_os(LIBRARY_VARIABLE) {
        Some(path) if !path.is_empty() => open(&path),
        // The first name's error is the one to report: nobody misses the second.
        _ => open(OsStr::new(NAMES[0])).or_else(|error| open(OsStr::new(NAMES[1])).map_err(|_| error)),
    }
}

fn open(name: &OsStr) -> Result<Library, LoadError> {
    // SAFETY: loading runs the library's initialisers. It is the driver that the system's loader finds under
    // the driver's own name, or the file that the user named for it.
    unsafe { Library::new(OsString::from(name)) }.map_err(|error| LoadError::Open {
        library: name.to_string_lossy().into_owned(),
        // libloading itself says "dlopen failed"; the dynamic loader's message is the source.
        reason: error.source().map_or_else(|| error.to_string(), ToString::to_string),
    })
}

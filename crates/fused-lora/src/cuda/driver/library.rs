//! The driver's library: found and opened when the program runs.

use std::{env, error::Error as _, ffi::OsString};

use libloading::Library;

/// What a driver installs, then the one name that some containers pass in.
const NAMES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

/// Names another library; then no other is tried. Empty is as good as unset.
const VARIABLE: &str = "FUSED_LORA_LIBCUDA";

/// The CUDA driver's library cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
#[non_exhaustive]
pub struct LoadError {
    /// Each name or path that was tried, in order, with the dynamic loader's error.
    pub tried: Vec<(String, String)>,
}

impl LoadError {
    fn text(&self) -> String {
        let line = |(name, reason): &(String, String)| format!("cannot load `{name}`: {reason}");
        self.tried.iter().map(line).collect::<Vec<_>>().join("; ")
    }
}

/// Opens the library that [`VARIABLE`] names, or the first of [`NAMES`] that can be opened.
pub(super) fn open() -> Result<Library, LoadError> {
    match env::var_os(VARIABLE) {
        Some(path) if !path.is_empty() => open_first([path]),
        _ => open_first(NAMES.map(OsString::from)),
    }
}

fn open_first<const N: usize>(names: [OsString; N]) -> Result<Library, LoadError> {
    let mut tried = Vec::new();
    for name in names {
        // SAFETY: this runs the library's initialisers. The library is the one that the system has under the
        // driver's name, or the one that the user named as the driver.
        match unsafe { Library::new(&name) } {
            Ok(library) => return Ok(library),
            Err(error) => {
                // The dynamic loader's message is the source; libloading's own says only that dlopen failed.
                let reason = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                tried.push((name.to_string_lossy().into_owned(), reason));
            }
        }
    }
    Err(LoadError { tried })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_library_that_can_be_opened_is_taken() {
        assert!(open_first(["no-such-folder/libcuda.so.1", "libc.so.6"].map(OsString::from)).is_ok());
    }

    #[test]
    fn the_error_names_all_that_was_tried() {
        let names = ["no-such-folder/libcuda.so.1", "no-such-folder/libcuda.so"];
        let error = open_first(names.map(OsString::from)).err().unwrap();
        let text = error.to_string();
        for name in names {
            assert!(text.contains(&format!("cannot load `{name}`: ")), "{text}");
        }
        assert_eq!(text.matches("No such file").count(), 2, "{text}");
    }
}

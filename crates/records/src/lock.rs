//! One writer at a time.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Fault, RecordError};
use crate::read::at;

/// Holds the file `.<name>.lock` beside a file `<name>`. The file itself cannot be the lock, since each
/// rewrite puts another one in its place. The lock ends with the process, however that ends; dropping removes
/// its file.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// # Errors
    ///
    /// If another process holds it, or the system refuses to make the file.
    pub(crate) fn take(records: &Path) -> Result<Lock, RecordError> {
        let failed = |source| at(records, None, Fault::Io("its lock file cannot be opened", source));
        let path = hidden(records, "lock").map_err(failed)?;
        loop {
            let file = File::options().write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(failed)?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => return Err(at(records, None, Fault::InUse)),
                // A file system that knows no locks is no reason not to measure.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            if is_still_at(&file, &path) {
                return Ok(Lock { path, _file: file });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while it is still locked: nobody else's file can be at this path. One that stays does no
        // harm.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the path still leads to this file: its last holder may have removed it between our opening and our
/// locking it, and then a third process can lock a new file there.
#[cfg(unix)]
fn is_still_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let inode = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|found| (found.dev(), found.ino()));
    inode(file.metadata()) == inode(fs::metadata(path))
}

/// Elsewhere the standard library has no way to tell.
#[cfg(not(unix))]
fn is_still_at(_: &File, _: &Path) -> bool {
    true
}

/// `.<name>.<extension>` beside the file `<name>`.
pub(crate) fn hidden(path: &Path, extension: &str) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".");
    hidden.push(extension);
    Ok(path.with_file_name(hidden))
}

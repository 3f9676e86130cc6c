//! Writing files: all of them or none.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::error::Error;

/// The figure's files.
#[derive(Clone, Debug)]
pub struct Output {
    /// The SVG.
    pub svg: String,
    /// The same as a PNG.
    pub png: Vec<u8>,
    /// The records drawn.
    pub csv: Vec<u8>,
}

impl Output {
    /// Writes `<stem>.svg`, `<stem>.png` and `<stem>.csv` into the folder, which is made if need be, and
    /// returns their paths. Everything is written under temporary names first; only when that has succeeded
    /// do the files replace those that were there.
    ///
    /// # Errors
    ///
    /// If the system refuses. Then no file was changed, save where a rename fails after another has
    /// succeeded.
    pub fn write(&self, folder: &Path, stem: &str) -> Result<Vec<PathBuf>, Error> {
        let files = [("svg", self.svg.as_bytes()), ("png", &self.png), ("csv", &self.csv)];
        write_files(folder, &files.map(|(extension, bytes)| (format!("{stem}.{extension}"), bytes)))
    }
}

/// Writes `report.html` into the folder, which is made if need be, and returns its path
/// alone. Another file of that name
/// is replaced when all is written.
///
/// # Errors
///
/// If the system refuses. Then no file was changed.
pub fn write_report(folder: &Path, html: &str) -> Result<Vec<PathBuf>, Error> {
    write_files(folder, &[("report.html".to_owned(), html.as_bytes())])
}

fn write_files(folder: &Path, files: &[(String, &[u8])]) -> Result<Vec<PathBuf>, Error> {
    let failed = |path: &Path, source: io::Error| Error::Write { path: path.to_owned(), source };
    fs::create_dir_all(folder).map_err(|source| failed(folder, source))?;
    let mut staged = Vec::new();
    for (name, bytes) in files {
        let path = folder.join(name);
        // A rename onto a folder would fail after others have succeeded.
        if path.is_dir() {
            return Err(failed(&path, io::ErrorKind::IsADirectory.into()));
        }
        staged.push((stage(folder, bytes).map_err(|source| failed(&path, source))?, path));
    }
    let mut written = Vec::new();
    for (file, path) in staged {
        file.persist(&path).map_err(|error| failed(&path, error.error))?;
        written.push(path);
    }
    Ok(written)
}

/// A file beside its place to be, with its content on the disk. It is removed if it gets no other name.
fn stage(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(".heatmap-");
    // Temporary files are their owner's alone by default; this one becomes an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

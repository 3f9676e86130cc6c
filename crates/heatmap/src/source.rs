//! Where the records come from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fused_lora_records::{Record, Warning, parse, read};

use crate::error::Error;
use crate::published::PUBLISHED;

/// Records, and where they come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The records.
    pub records: Vec<Record>,
    /// What was passed over in reading them.
    pub warnings: Vec<Warning>,
    /// Where they come from.
    pub origin: Origin,
}

/// Where records come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Files that were named.
    Named(Vec<PathBuf>),
    /// Files of measurements that were found.
    Measured(Vec<PathBuf>),
    /// Nothing was measured here: the data published with the repository.
    Published,
}

/// The workspace that this was built in. Not the working directory: that differs between `cargo bench` and
/// `cargo run`.
#[must_use]
pub fn workspace_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is two folders below the workspace")
}

impl Source {
    /// The records of the files in `named`; without any, those of the `.csv` files in the folder
    /// `measurements`; without any of these, the published ones.
    ///
    /// # Errors
    ///
    /// If a file or the folder cannot be read, a file is bad, or the named files hold no record.
    pub fn load(named: &[PathBuf], measurements: &Path) -> Result<Source, Error> {
        if !named.is_empty() {
            let found = read(named)?;
            if found.records.is_empty() {
                return Err(Error::NoRecords { files: named.to_vec() });
            }
            return Ok(Source {
                records: found.records,
                warnings: found.warnings,
                origin: Origin::Named(named.to_vec()),
            });
        }
        let files = csv_files(measurements)
            .map_err(|source| Error::Folder { folder: measurements.to_owned(), source })?;
        let found = read(&files)?;
        if !found.records.is_empty() {
            let origin = Origin::Measured(files);
            return Ok(Source { records: found.records, warnings: found.warnings, origin });
        }
        let mut source = Source { records: Vec::new(), warnings: found.warnings, origin: Origin::Published };
        for (name, text) in PUBLISHED {
            source.records.extend(parse(Path::new(name), text.as_bytes())?.records);
        }
        Ok(source)
    }
}

/// The folder's `.csv` files by name; none if there is no such folder.
fn csv_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

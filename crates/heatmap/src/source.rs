//! Where the records come from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fused_lora_records::{Record, Records, Warning, parse, read};

use crate::error::Error;

/// A file of records below `figures/`: its name and its content.
macro_rules! published {
    ($name:literal) => {
        (concat!("figures/", $name), include_str!(concat!("../../../figures/", $name)))
    };
}

/// What was published with this repository, for whoever has not measured yet.
const PUBLISHED: [(&str, &str); 3] = [
    published!("linear-1024x1024-cpu.csv"),
    published!("gpt2-medium-layer-cpu.csv"),
    published!("decode-cpu.csv"),
];

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

impl Source {
    /// The records of the files in `named`; without any, those of the `.csv` files in the folder
    /// `measurements`; without any of these, the published ones.
    ///
    /// # Errors
    ///
    /// If a file or the folder cannot be read, a file is bad, or the named files hold no record.
    pub fn load(named: &[PathBuf], measurements: &Path) -> Result<Source, Error> {
        let origin = if named.is_empty() {
            let failed = |source| Error::Folder { folder: measurements.to_owned(), source };
            Origin::Measured(csv_files(measurements).map_err(failed)?)
        } else {
            Origin::Named(named.to_vec())
        };
        let (Origin::Named(files) | Origin::Measured(files)) = &origin else { unreachable!("just made") };
        let Records { records, warnings } = read(files)?;
        if !records.is_empty() {
            return Ok(Source { records, warnings, origin });
        }
        if !named.is_empty() {
            return Err(Error::NoRecords(named.to_vec()));
        }
        let mut source = Source { records, warnings, origin: Origin::Published };
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

//! What can be wrong with a file of records.

use std::io;
use std::path::PathBuf;

/// The first line of a file of records, as it is written here. Files of version 1 are read as well.
pub const VERSION_LINE: &str = "# fused-lora-records 2";

/// A file of records that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The operating system refused.
    #[error("{}: {action}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried, such as "cannot be opened".
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// The first line does not say that this is a file of records.
    #[error("{}:1: not a file of records: the first line is '{found}', expected '{VERSION_LINE}'", path.display())]
    NotRecords {
        /// The file.
        path: PathBuf,
        /// The beginning of its first line.
        found: String,
    },
    /// A file of records of an unknown version.
    #[error("{}:1: records of version {found}; this program reads versions 1 and 2", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: String,
    },
    /// A file to write to that is of version 1, which is only read.
    #[error("{}:1: records of version 1 are read, but not written; start a new file", path.display())]
    OldVersion {
        /// The file.
        path: PathBuf,
    },
    /// A line that is not UTF-8.
    #[error("{}:{line}: not UTF-8", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// The header names a column that does not exist.
    #[error("{}:2: unknown column '{column}' in the header", path.display())]
    UnknownColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// The header names a column twice.
    #[error("{}:2: column '{column}' is twice in the header", path.display())]
    RepeatedColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
    },
    /// The header lacks a column.
    #[error("{}:2: column '{column}' is missing in the header", path.display())]
    MissingColumn {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
    },
    /// A line with more or fewer fields than the header.
    #[error("{}:{line}: {found} fields, but the header has {expected}", path.display())]
    FieldCount {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// Its fields.
        found: usize,
        /// The header's.
        expected: usize,
    },
    /// A field that its column cannot hold.
    #[error("{}:{line}: {column} = '{value}': {reason}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The column.
        column: &'static str,
        /// The field's text.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The same cell, measured twice in a run.
    #[error(
        "{}:{line}: run '{run}' has {what} already, at {}:{first_line}", path.display(), first_path.display()
    )]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The line of the second record, counted from 1.
        line: usize,
        /// The run.
        run: String,
        /// Method and cell, such as "fused at seq128/batch1/r10".
        what: String,
        /// The file of the first record.
        first_path: PathBuf,
        /// The line of the first record, counted from 1.
        first_line: usize,
    },
    /// A record that is refused because it could not be read back.
    #[error("{}: {refused}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What is wrong with the record.
        refused: RefusedRecord,
    },
    /// A file that another process writes.
    #[error("{}: another process is writing it", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
}

/// A record that could not be read back, so it is not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a record with {column} = '{value}' is not written: {reason}")]
pub struct RefusedRecord {
    /// The column that is wrong.
    pub column: &'static str,
    /// The field's text.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

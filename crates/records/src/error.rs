//! What can be wrong with a file of records.

use std::error::Error;
use std::path::PathBuf;
use std::{fmt, io};

/// The first line of a file of records, as it is written here. Files of version 1 are read as well.
pub const VERSION_LINE: &str = "# fused-lora-records 2";

/// A file of records that cannot be read or written.
#[derive(Debug)]
pub struct RecordError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1; None where it is the file as a whole.
    pub line: Option<usize>,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a file of records, or one of its lines.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system refused: what was tried, such as "cannot be opened", and its reason.
    #[error("{0}")]
    Io(&'static str, #[source] io::Error),
    /// The first line, which begins like this, does not say that this is a file of records.
    #[error("not a file of records: the first line is '{0}', expected '{VERSION_LINE}'")]
    NotRecords(String),
    /// The file is of this unknown version.
    #[error("records of version {0}; this program reads versions 1 and 2")]
    Version(String),
    /// A file to write to is of version 1, which is only read.
    #[error("records of version 1 are read, but not written; start a new file")]
    OldVersion,
    /// The line is not UTF-8.
    #[error("not UTF-8")]
    Encoding,
    /// The header names a column that does not exist.
    #[error("unknown column '{0}' in the header")]
    UnknownColumn(String),
    /// The header names a column twice.
    #[error("column '{0}' is twice in the header")]
    RepeatedColumn(String),
    /// The header lacks a column.
    #[error("column '{0}' is missing in the header")]
    MissingColumn(&'static str),
    /// The line has more or fewer fields than the header.
    #[error("{found} fields, but the header has {expected}")]
    FieldCount {
        /// The line's fields.
        found: usize,
        /// The header's.
        expected: usize,
    },
    /// A field holds what its column cannot hold.
    #[error(transparent)]
    Field(#[from] BadField),
    /// The same cell was measured twice in a run.
    #[error("run '{run}' has {what} already, at {}:{line}", path.display())]
    Duplicate {
        /// The run.
        run: String,
        /// Method and cell, such as "fused at seq128/batch1/r10".
        what: String,
        /// The file of the first record.
        path: PathBuf,
        /// The line of the first record, counted from 1.
        line: usize,
    },
    /// A record is not written because it could not be read back.
    #[error("a record is not written: {0}")]
    Unwritable(BadField),
    /// Another process writes the file.
    #[error("another process is writing it")]
    InUse,
}

/// A column of a record that holds what it cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{column} = '{value}': {reason}")]
pub struct BadField {
    /// The column.
    pub column: &'static str,
    /// The field's text.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line.map_or_else(String::new, |line| format!(":{line}"));
        write!(f, "{}{line}: {}", self.path.display(), self.fault)
    }
}

impl Error for RecordError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

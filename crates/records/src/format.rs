//! The frame around the records of a file (version line and header), one line's CSV, and what can be
//! wrong with a file.

use std::io;
use std::path::PathBuf;

use crate::record::BadField;
use crate::version::Version;
use crate::{COLUMNS, Record};

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

/// Puts a file and line to what a single line's reader found.
pub(crate) type At<'a> = &'a dyn Fn() -> (PathBuf, usize);

/// Which field of a line holds each of [`COLUMNS`]; none holds a column that the file's version lacks.
pub(crate) type Positions = Vec<Option<usize>>;

/// Checks the header: it must have exactly the version's columns, in any order.
pub(crate) fn parse_header(line: &[u8], version: Version, at: At<'_>) -> Result<Positions, RecordError> {
    let header = split(line, at)?;
    for (i, column) in header.iter().enumerate() {
        if !COLUMNS.contains(&column.as_str()) || !version.has(column) {
            return Err(RecordError::UnknownColumn { path: at().0, column: column.clone() });
        }
        if header[..i].contains(column) {
            return Err(RecordError::RepeatedColumn { path: at().0, column: column.clone() });
        }
    }
    let position = |column: &&'static str| match header.iter().position(|name| name == column) {
        None if version.has(column) => Err(RecordError::MissingColumn { path: at().0, column }),
        position => Ok(position),
    };
    COLUMNS.iter().map(position).collect()
}

/// The fields of one line, without their quotes.
pub(crate) fn split(line: &[u8], at: At<'_>) -> Result<Vec<String>, RecordError> {
    let encoding = || {
        let (path, line) = at();
        RecordError::Encoding { path, line }
    };
    let text = std::str::from_utf8(line).map_err(|_| encoding())?;
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
    match reader.records().next() {
        Some(Ok(fields)) => Ok(fields.iter().map(str::to_owned).collect()),
        // Reading from memory cannot fail, and the text is UTF-8.
        Some(Err(_)) => Err(encoding()),
        // The CSV reader passes over blank lines; here one is a line with a single, empty field.
        None => Ok(vec![String::new()]),
    }
}

/// One line of CSV with its line end.
fn join<'a>(fields: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(fields).expect("writing to memory cannot fail");
    writer.into_inner().expect("writing to memory cannot fail")
}

/// The bytes of a file with these records.
///
/// # Errors
///
/// If one of them could not be read back.
pub fn to_csv<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Vec<u8>, RefusedRecord> {
    let mut bytes = format!("{VERSION_LINE}\n").into_bytes();
    bytes.extend(join(COLUMNS.iter().copied()));
    for record in records {
        let fields = record.to_fields();
        record.check().map_err(|bad| {
            let value = text_of(&bad, &fields);
            RefusedRecord { column: bad.column, value, reason: bad.reason }
        })?;
        bytes.extend(join(fields.iter().map(String::as_str)));
    }
    Ok(bytes)
}

/// The wrong field's text, for the message.
pub(crate) fn text_of(bad: &BadField, fields: &[String]) -> String {
    let index = COLUMNS.iter().position(|column| *column == bad.column).expect("a column's own name");
    fields[index].clone()
}

//! The frame around the records of a file (version line and header), one line's CSV, and what can be
//! wrong with a file.

use std::io;
use std::path::PathBuf;

use crate::COLUMNS;
use crate::record::BadField;

/// The first line of a file of records.
pub const VERSION_LINE: &str = "# fused-lora-records 1";
/// What the first line of every version begins with.
const MAGIC: &str = "# fused-lora-records ";

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
    /// A file of records of another version.
    #[error("{}:1: records of version {found}; this program reads version 1", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it names.
        found: String,
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
    /// A file to append to that has its columns in another order.
    #[error("{}:2: its columns are not in the order that is written here", path.display())]
    ColumnOrder {
        /// The file.
        path: PathBuf,
    },
    /// A file that another process appends to.
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

/// Checks a file's first line.
pub(crate) fn check_version(line: &[u8], at: At<'_>) -> Result<(), RecordError> {
    if line == VERSION_LINE.as_bytes() {
        return Ok(());
    }
    let (path, _) = at();
    let start = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    match start.strip_prefix(MAGIC) {
        Some(version) => Err(RecordError::Version { path, found: version.to_owned() }),
        None => Err(RecordError::NotRecords { path, found: start }),
    }
}

/// Checks the header, and says which field of a line holds each of [`COLUMNS`].
pub(crate) fn parse_header(line: &[u8], at: At<'_>) -> Result<Vec<usize>, RecordError> {
    let header = split(line, at)?;
    for (i, column) in header.iter().enumerate() {
        if !COLUMNS.contains(&column.as_str()) {
            return Err(RecordError::UnknownColumn { path: at().0, column: column.clone() });
        }
        if header[..i].contains(column) {
            return Err(RecordError::RepeatedColumn { path: at().0, column: column.clone() });
        }
    }
    let position = |column: &&'static str| {
        header
            .iter()
            .position(|name| name == column)
            .ok_or_else(|| RecordError::MissingColumn { path: at().0, column })
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
pub(crate) fn join<'a>(fields: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
    writer.write_record(fields).expect("writing to memory cannot fail");
    writer.into_inner().expect("writing to memory cannot fail")
}

/// The first two lines of every file that is written here.
pub(crate) fn frame() -> Vec<u8> {
    let mut frame = format!("{VERSION_LINE}\n").into_bytes();
    frame.extend(join(COLUMNS.iter().copied()));
    frame
}

/// The wrong field's text, for the message.
pub(crate) fn text_of(bad: &BadField, fields: &[String]) -> String {
    let index = COLUMNS.iter().position(|column| *column == bad.column).expect("a column's own name");
    fields[index].clone()
}

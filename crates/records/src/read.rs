//! Reading files of records, strictly.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{RecordError, VERSION_LINE};
use crate::format::{Positions, parse_header, split, text_of};
use crate::newest::{Key, key};
use crate::record::{COLUMNS, Record};
use crate::version::{Version, default};

/// What [`read`] found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Records {
    /// The records, in the order of the files and of their lines.
    pub records: Vec<Record>,
    /// What was passed over.
    pub warnings: Vec<Warning>,
}

/// Something that was passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The file's last line has no line end: its writer was stopped within it. It is dropped.
    TornLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A file without a single byte, or cut off before its header was complete.
    NoHeader {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::TornLine { path, line } => {
                write!(f, "{}:{line}: the last line is cut off and was dropped", path.display())
            }
            Warning::NoHeader { path } => {
                write!(f, "{}: ends before its header, so it holds no records", path.display())
            }
        }
    }
}

/// Reads files of records, of version 1 or 2, in this order, as one collection.
///
/// # Errors
///
/// If a file cannot be read; if it is not a file of records of version 1 or 2; if its header lacks a column
/// of its version or has an unknown one; if a line, other than a torn last one, is not a record; if two
/// records are of the same cell within one run. The error names file, line and column.
pub fn read<P: AsRef<Path>>(paths: &[P]) -> Result<Records, RecordError> {
    let mut reading = Reading::default();
    for path in paths {
        reading.file(path.as_ref(), &bytes_of(path.as_ref())?)?;
    }
    Ok(reading.found)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, RecordError> {
    let failed = |source| RecordError::Io { path: path.to_owned(), action: "cannot be read", source };
    fs::read(path).map_err(failed)
}

/// The records of a file that is to be rewritten, so of the version that is written.
pub(crate) fn read_to_write(path: &Path) -> Result<Vec<Record>, RecordError> {
    let mut reading = Reading::default();
    match reading.file(path, &bytes_of(path)?)? {
        Some(Version::One) => Err(RecordError::OldVersion { path: path.to_owned() }),
        Some(Version::Two) | None => Ok(reading.found.records),
    }
}

/// Reads one file's content that is in memory already; `name` stands for its path in what is reported.
///
/// # Errors
///
/// As [`read`], save that no file can be missing.
pub fn parse(name: &Path, bytes: &[u8]) -> Result<Records, RecordError> {
    let mut reading = Reading::default();
    reading.file(name, bytes)?;
    Ok(reading.found)
}

/// The columns that tell records of a cell apart beside its [`Key`]: `run`, `d_in` and `d_out`.
type OfRun = [String; 3];

#[derive(Default)]
struct Reading {
    found: Records,
    /// Where each record was first seen.
    seen: HashMap<(OfRun, Key), (PathBuf, usize)>,
}

impl Reading {
    /// Adds a file's records, and returns its version if it has one.
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Result<Option<Version>, RecordError> {
        let at_line = |line: usize| move || (path.to_owned(), line);
        let (lines, torn) = lines(bytes);
        let Some(first) = lines.first() else {
            self.found.warnings.push(Warning::NoHeader { path: path.to_owned() });
            // A single line without an end may be the beginning of a file of records, or any other file.
            return if VERSION_LINE.as_bytes().starts_with(bytes) {
                Ok(None)
            } else {
                Version::of(bytes, &at_line(1)).map(Some)
            };
        };
        let version = Version::of(first, &at_line(1))?;
        let Some(header) = lines.get(1) else {
            self.found.warnings.push(Warning::NoHeader { path: path.to_owned() });
            return Ok(Some(version));
        };
        let positions = parse_header(header, version, &at_line(2))?;
        for (i, line) in lines.iter().enumerate().skip(2) {
            self.line(path, i + 1, line, &positions)?;
        }
        if torn {
            let warning = Warning::TornLine { path: path.to_owned(), line: lines.len() + 1 };
            self.found.warnings.push(warning);
        }
        Ok(Some(version))
    }

    fn line(
        &mut self,
        path: &Path,
        line: usize,
        bytes: &[u8],
        positions: &Positions,
    ) -> Result<(), RecordError> {
        let path = || path.to_owned();
        let fields = split(bytes, &|| (path(), line))?;
        let (found, expected) = (fields.len(), positions.iter().flatten().count());
        if found != expected {
            return Err(RecordError::FieldCount { path: path(), line, found, expected });
        }
        let index = |name: &str| COLUMNS.iter().position(|column| *column == name).expect("a column's name");
        let method = positions[index("method")].map_or("", |position| &fields[position]);
        let text = |(column, position): (&&str, &Option<usize>)| match position {
            Some(position) => fields[*position].clone(),
            None => default(column, method).expect("only version 1 lacks columns").to_owned(),
        };
        let fields: Vec<String> = COLUMNS.iter().zip(positions).map(text).collect();
        let by_name = |name: &'static str| fields[index(name)].as_str();
        let record = Record::from_fields(by_name)
            .and_then(|record| record.check().map(|()| record))
            .map_err(|bad| {
                let value = text_of(&bad, &fields);
                RecordError::Field { path: path(), line, column: bad.column, value, reason: bad.reason }
            })?;
        if let Some((first_path, first_line)) = self.seen.insert(key_in_run(&record), (path(), line)) {
            let (run, what) = (record.run.clone(), format!("{} at {}", record.method, record.cell()));
            return Err(RecordError::Duplicate { path: path(), line, run, what, first_path, first_line });
        }
        self.found.records.push(record);
        Ok(())
    }
}

/// What may not be twice in a run.
fn key_in_run(record: &Record) -> (OfRun, Key) {
    ([&record.run, &record.d_in, &record.d_out].map(String::clone), key(record))
}

/// The lines that have an end, without it (`\n` or `\r\n`), and whether one without an end follows.
fn lines(bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    let torn = lines.pop().is_some_and(|rest| !rest.is_empty());
    let lines = lines.into_iter().map(|line| line.strip_suffix(b"\r").unwrap_or(line)).collect();
    (lines, torn)
}

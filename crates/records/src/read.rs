//! Reading files of records, strictly.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{BadField, Fault, RecordError, VERSION_LINE};
use crate::format::{Positions, parse_header, split};
use crate::newest::{Key, key};
use crate::record::{COLUMNS, Record, position};
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Warning {
    /// The file's last line has no line end: its writer was stopped within it. It is dropped.
    #[error("{}:{line}: the last line is cut off and was dropped", path.display())]
    TornLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
    },
    /// A file without a single byte, or cut off before its header was complete.
    #[error("{}: ends before its header, so it holds no records", path.display())]
    NoHeader {
        /// The file.
        path: PathBuf,
    },
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
    fs::read(path).map_err(|source| at(path, None, Fault::Io("cannot be read", source)))
}

/// A fault of a file, or of one of its lines, counted from 1.
pub(crate) fn at(path: &Path, line: impl Into<Option<usize>>, fault: Fault) -> RecordError {
    RecordError { path: path.to_owned(), line: line.into(), fault }
}

/// The records of a file that is to be rewritten, so of the version that is written.
pub(crate) fn read_to_write(path: &Path) -> Result<Vec<Record>, RecordError> {
    let mut reading = Reading::default();
    match reading.file(path, &bytes_of(path)?)? {
        Some(Version::One) => Err(at(path, 1, Fault::OldVersion)),
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
        let (lines, torn) = lines(bytes);
        let version = match lines.first() {
            Some(first) => Some(Version::of(first)),
            // A single line without an end may be the beginning of a file of records, or any other file.
            None => (!VERSION_LINE.as_bytes().starts_with(bytes)).then(|| Version::of(bytes)),
        };
        let version = version.transpose().map_err(|fault| at(path, 1, fault))?;
        let (Some(read), Some(header)) = (version, lines.get(1)) else {
            self.found.warnings.push(Warning::NoHeader { path: path.to_owned() });
            return Ok(version);
        };
        let positions = parse_header(header, read).map_err(|fault| at(path, 2, fault))?;
        for (i, line) in lines.iter().enumerate().skip(2) {
            self.line(path, i + 1, line, &positions).map_err(|fault| at(path, i + 1, fault))?;
        }
        if torn {
            let warning = Warning::TornLine { path: path.to_owned(), line: lines.len() + 1 };
            self.found.warnings.push(warning);
        }
        Ok(version)
    }

    fn line(&mut self, path: &Path, line: usize, bytes: &[u8], positions: &Positions) -> Result<(), Fault> {
        let fields = split(bytes)?;
        let (found, expected) = (fields.len(), positions.iter().flatten().count());
        if found != expected {
            return Err(Fault::FieldCount { found, expected });
        }
        let method = positions[position("method")].map_or("", |place| &fields[place]);
        let text = |(column, place): (&&str, &Option<usize>)| match place {
            Some(place) => fields[*place].as_str(),
            None => default(column, method).expect("only version 1 lacks columns"),
        };
        let texts: Vec<&str> = COLUMNS.iter().zip(positions).map(text).collect();
        let by_name = |name: &'static str| texts[position(name)];
        // A bad field is named with the file's text: `1e999`, not the `inf` that it is read as.
        let named = |bad: BadField| BadField { value: by_name(bad.column).to_owned(), ..bad };
        let record = Record::from_fields(by_name).map_err(named)?;
        record.check().map_err(named)?;
        if let Some((path, line)) = self.seen.insert(key_in_run(&record), (path.to_owned(), line)) {
            let what = format!("{} at {}", record.method, record.cell());
            return Err(Fault::Duplicate { run: record.run, what, path, line });
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

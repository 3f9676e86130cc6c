//! What can go wrong between records and files.

use std::io;
use std::path::PathBuf;

use fused_lora_records::{BadField, RecordError};

/// A figure that cannot be drawn or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The records cannot be read.
    #[error(transparent)]
    Records(#[from] RecordError),
    /// A record cannot be written.
    #[error("a record is not written: {0}")]
    Refused(#[from] BadField),
    /// A folder cannot be searched for records.
    #[error("{}: cannot be searched for records", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The files hold not a single record.
    #[error("there are no records in {}", list(.0.iter().map(|file| file.display().to_string())))]
    NoRecords(Vec<PathBuf>),
    /// No record has what was asked for.
    #[error("no record has {column} '{wanted}'; there are {}", list(present))]
    Absent {
        /// The column.
        column: &'static str,
        /// What was asked for.
        wanted: String,
        /// What the records have, given what was asked of the columns before.
        present: Vec<String>,
    },
    /// There are records, but none of these rows in a cell of the grid that has a number to draw.
    #[error("no record of {} lies on the grid and has a number to draw", list(.0))]
    NothingToDraw(Vec<String>),
    /// There are no records of few tokens.
    #[error(
        "no record of {} has one token per sequence (seq_len 1); `cargo bench --bench decode` measures them",
        list(.0)
    )]
    NoFewTokens(Vec<String>),
    /// No record of few tokens has a number to draw.
    #[error("no record of few tokens has a number of the metric {0}")]
    NoNumber(String),
    /// Plotters failed.
    #[error("the figure cannot be drawn: {0}")]
    Draw(String),
    /// The SVG cannot be made a PNG.
    #[error("the SVG cannot be made a PNG: {0}")]
    Png(String),
    /// A file or folder cannot be written.
    #[error("{}: cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    /// What plotters said.
    pub(crate) fn draw(error: impl std::fmt::Display) -> Error {
        Error::Draw(error.to_string())
    }
}

fn list<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

//! The frame around the records of a file (version line and header), and one line's CSV.

use crate::error::{BadField, Fault, VERSION_LINE};
use crate::record::{COLUMNS, Record};
use crate::version::Version;

/// Which field of a line holds each of [`COLUMNS`]; none holds a column that the file's version lacks.
pub(crate) type Positions = Vec<Option<usize>>;

/// Checks the header: it must have exactly the version's columns, in any order.
pub(crate) fn parse_header(line: &[u8], version: Version) -> Result<Positions, Fault> {
    let header = split(line)?;
    for (i, column) in header.iter().enumerate() {
        if !COLUMNS.contains(&column.as_str()) || !version.has(column) {
            return Err(Fault::UnknownColumn(column.clone()));
        }
        if header[..i].contains(column) {
            return Err(Fault::RepeatedColumn(column.clone()));
        }
    }
    let position = |column: &&'static str| match header.iter().position(|name| name == column) {
        None if version.has(column) => Err(Fault::MissingColumn(column)),
        position => Ok(position),
    };
    COLUMNS.iter().map(position).collect()
}

/// The fields of one line, without their quotes.
pub(crate) fn split(line: &[u8]) -> Result<Vec<String>, Fault> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
    match reader.records().next() {
        Some(Ok(fields)) => Ok(fields.iter().map(str::to_owned).collect()),
        // Reading from memory cannot fail.
        Some(Err(_)) => Err(Fault::Encoding),
        // The CSV reader passes over blank lines; here one is a line with a single, empty field.
        None => Ok(vec![String::new()]),
    }
}

/// The bytes of a file with these records.
///
/// # Errors
///
/// If one of them could not be read back.
pub fn to_csv<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Vec<u8>, BadField> {
    let mut writer = csv::WriterBuilder::new().from_writer(format!("{VERSION_LINE}\n").into_bytes());
    writer.write_record(COLUMNS).expect("writing to memory cannot fail");
    for record in records {
        record.check()?;
        writer.write_record(record.to_fields()).expect("writing to memory cannot fail");
    }
    Ok(writer.into_inner().expect("writing to memory cannot fail"))
}

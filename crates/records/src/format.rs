//! The frame around the records of a file (version line and header), and one line's CSV.

use crate::error::{RecordError, RefusedRecord, VERSION_LINE};
use crate::record::{BadField, COLUMNS, Record};
use crate::version::{At, Version};

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

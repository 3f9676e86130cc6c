//! Writing records, one line at a time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::format::{check_version, frame, join, parse_header, text_of};
use crate::read::lines;
use crate::{Record, RecordError, RefusedRecord};

/// The bytes of a file with these records, for whoever has them all at once.
///
/// # Errors
///
/// If one of them could not be read back.
pub fn to_csv<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Vec<u8>, RefusedRecord> {
    let mut bytes = frame();
    for record in records {
        bytes.extend(to_line(record)?);
    }
    Ok(bytes)
}

fn to_line(record: &Record) -> Result<Vec<u8>, RefusedRecord> {
    let fields = record.to_fields();
    record.check().map_err(|bad| {
        let value = text_of(&bad, &fields);
        RefusedRecord { column: bad.column, value, reason: bad.reason }
    })?;
    Ok(join(fields.iter().map(String::as_str)))
}

/// A file that records are appended to.
///
/// Each record is one write of a whole line, synced before [`append`](RecordFile::append) returns: a kill or
/// a crash can cost the cell under way, but none that is finished. The file is locked while it is open, since
/// two processes that resume the same run would measure each cell twice.
#[derive(Debug)]
pub struct RecordFile {
    path: PathBuf,
    file: File,
}

impl RecordFile {
    /// Makes a new file, and the folder it is in.
    ///
    /// # Errors
    ///
    /// If the file exists already (a measurement is never overwritten), or the system refuses.
    pub fn create(path: impl AsRef<Path>) -> Result<RecordFile, RecordError> {
        let path = path.as_ref();
        let failed = |action, source| RecordError::Io { path: path.to_owned(), action, source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| failed("its folder cannot be made", source))?;
        }
        let file = OpenOptions::new().append(true).create_new(true).open(path);
        let file = file.map_err(|source| failed("cannot be created", source))?;
        let mut records = RecordFile::locked(path, file)?;
        records.write(&frame())?;
        Ok(records)
    }

    /// Opens a file to append to it. A torn last line, which its reader drops, is cut off first: a record
    /// after it would become part of it.
    ///
    /// # Errors
    ///
    /// If it is not a file of records of this version with its columns in the order of
    /// [`COLUMNS`](crate::COLUMNS), if another process writes it, or if the system refuses.
    pub fn open_append(path: impl AsRef<Path>) -> Result<RecordFile, RecordError> {
        let path = path.as_ref();
        let file = OpenOptions::new().read(true).append(true).open(path);
        let file = file.map_err(|source| RecordError::Io {
            path: path.to_owned(),
            action: "cannot be opened",
            source,
        })?;
        let mut records = RecordFile::locked(path, file)?;
        records.mend()?;
        Ok(records)
    }

    /// The file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one record, and returns when it is on the disk.
    ///
    /// # Errors
    ///
    /// If the record could not be read back (a number that is not finite, an empty name, a line break), or the
    /// system refuses.
    pub fn append(&mut self, record: &Record) -> Result<(), RecordError> {
        let line = to_line(record);
        let line = line.map_err(|refused| RecordError::Unwritable { path: self.path.clone(), refused })?;
        self.write(&line)
    }

    fn locked(path: &Path, file: File) -> Result<RecordFile, RecordError> {
        let path = path.to_owned();
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(RecordError::InUse { path }),
            // A file system that knows no locks is no reason not to measure.
            Ok(()) | Err(TryLockError::Error(_)) => Ok(RecordFile { path, file }),
        }
    }

    /// Checks the first two lines, and cuts off or completes what a kill left unfinished.
    fn mend(&mut self) -> Result<(), RecordError> {
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| self.file.read_to_end(&mut bytes))
            .map_err(|source| self.failed("cannot be read", source))?;
        let (lines, torn) = lines(&bytes);
        let at_line = |line: usize| {
            let path = self.path.clone();
            move || (path.clone(), line)
        };
        let whole_frame = frame();
        if lines.len() < 2 && whole_frame.starts_with(&bytes) {
            self.cut(0)?;
            return self.write(&whole_frame);
        }
        check_version(lines.first().copied().unwrap_or(&bytes), &at_line(1))?;
        let positions = parse_header(lines.get(1).copied().unwrap_or_default(), &at_line(2))?;
        if !positions.is_sorted() {
            return Err(RecordError::ColumnOrder { path: self.path.clone() });
        }
        if torn {
            let end = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            self.cut(end)?;
        }
        Ok(())
    }

    fn cut(&mut self, length: usize) -> Result<(), RecordError> {
        self.file.set_len(length as u64).map_err(|source| self.failed("cannot be shortened", source))
    }

    fn write(&mut self, line: &[u8]) -> Result<(), RecordError> {
        self.file
            .write_all(line)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| self.failed("cannot be written", source))
    }

    fn failed(&self, action: &'static str, source: io::Error) -> RecordError {
        RecordError::Io { path: self.path.clone(), action, source }
    }
}

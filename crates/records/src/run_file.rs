//! Writing the records of a run: always a whole file.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Fault, RecordError};
use crate::format::to_csv;
use crate::lock::{Lock, hidden};
use crate::newest::key;
use crate::read::{at, read_to_write};
use crate::record::Record;

/// The variable that names the folder of the runs' files, for the benches that write and the figure that
/// reads them.
pub const MEASUREMENTS_VARIABLE: &str = "FUSED_LORA_MEASUREMENTS";
/// The folder where the variable names none.
pub const MEASUREMENTS: &str = "measurements";
/// The help text of both.
pub const MEASUREMENTS_HELP: &str = "Folder of the records; if relative, below the workspace";

/// The workspace that this was built in. Not the working directory: that differs between `cargo bench` and
/// `cargo run`.
#[must_use]
pub fn workspace_root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate is two folders below the workspace")
}

/// A run's file, and its records in memory.
///
/// Each [`put`](RunFile::put) replaces the file by a rename, so that a kill at any moment leaves the whole
/// old file or the whole new one. A lock file `.<name>.lock` beside it keeps a second process out, since two
/// processes that resume the same run would measure each cell twice; dropping removes it.
#[derive(Debug)]
pub struct RunFile {
    path: PathBuf,
    records: Vec<Record>,
    _lock: Lock,
}

impl RunFile {
    /// Makes a new file without records, and the folder it is in.
    ///
    /// # Errors
    ///
    /// If the file exists already (a measurement is never overwritten), if another process writes it, or if
    /// the system refuses.
    pub fn create(path: impl AsRef<Path>) -> Result<RunFile, RecordError> {
        let path = path.as_ref();
        let failed = |action, source| at(path, None, Fault::Io(action, source));
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|source| failed("its folder cannot be made", source))?;
        }
        let lock = Lock::take(path)?;
        match fs::symlink_metadata(path) {
            Ok(_) => return Err(failed("cannot be created", io::ErrorKind::AlreadyExists.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("cannot be created", error)),
        }
        let mut file = RunFile { path: path.to_owned(), records: Vec::new(), _lock: lock };
        file.put(&[])?;
        Ok(file)
    }

    /// Opens the file of a run to go on with it. A torn last line is dropped with the next
    /// [`put`](RunFile::put).
    ///
    /// # Errors
    ///
    /// If it is of version 1, if [`read`](crate::read()) would refuse it, if another process writes it, or if
    /// the system refuses.
    pub fn open(path: impl AsRef<Path>) -> Result<RunFile, RecordError> {
        let path = path.as_ref();
        let lock = Lock::take(path)?;
        let records = read_to_write(path)?;
        Ok(RunFile { path: path.to_owned(), records, _lock: lock })
    }

    /// The file's records, in its order.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Puts records into the file: each replaces that of the same workload, backend, device, cache, dtype,
    /// adapters, method and cell in its place, or is appended where there is none. Returns when the new file
    /// has its name.
    ///
    /// # Errors
    ///
    /// If a record could not be read back (a number that is not finite, an empty name, a line break), or the
    /// system refuses. Then the file and [`records`](RunFile::records) are as before.
    pub fn put(&mut self, records: &[Record]) -> Result<(), RecordError> {
        let mut merged = self.records.clone();
        let mut keys: Vec<_> = merged.iter().map(key).collect();
        for record in records {
            let of_record = key(record);
            match keys.iter().position(|other| *other == of_record) {
                Some(at) => merged[at] = record.clone(),
                None => {
                    keys.push(of_record);
                    merged.push(record.clone());
                }
            }
        }
        let failed = |fault| at(&self.path, None, fault);
        let bytes = to_csv(&merged).map_err(|bad| failed(Fault::Unwritable(bad)))?;
        replace(&self.path, &bytes).map_err(|source| failed(Fault::Io("cannot be written", source)))?;
        self.records = merged;
        Ok(())
    }
}

/// Puts a file with this content in the place of the one at `path`. What a kill leaves of the temporary file
/// is overwritten the next time: the lock allows one writer.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = hidden(path, "tmp")?;
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    // Without it a crash of the machine could leave the new name with an empty file.
    file.sync_all()?;
    fs::rename(&temporary, path)
}

//! The file that a run writes its records to, and what of it is there already.

use std::path::{Path, PathBuf};
use std::{fs, io};

use fused_lora_records::{Cell, Fault, Record, RecordError, RunFile, Timestamp};
use sha2::{Digest as _, Sha256};

/// One run: a name, and the file `<name>.csv`.
///
/// The name is `<what>-<date and time>-<fingerprint>`, so that a run can be found again by what it measures,
/// how, and with which code.
pub struct Run {
    /// Its name.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// None until there is a record: a run that measures nothing leaves no file.
    file: Option<RunFile>,
}

impl Run {
    /// A run that has nothing yet.
    pub fn begin(folder: &Path, what: &str, now: Timestamp, fingerprint: &str) -> Run {
        // 2026-01-31T12:00:00.123Z → 20260131T120000
        let time = now.to_string().replace(['-', ':'], "");
        let name = format!("{what}-{}-{fingerprint}", &time[.."20260131T120000".len()]);
        let path = folder.join(format!("{name}.csv"));
        Run { name, path, file: None }
    }

    /// The newest run of the same kind and fingerprint; None if there is none. Fails if another process
    /// writes its file.
    pub fn resume(folder: &Path, what: &str, fingerprint: &str) -> Result<Option<Run>, RecordError> {
        let failed = |fault| RecordError { path: folder.to_owned(), line: None, fault };
        let names = file_names(folder).map_err(|source| failed(Fault::Io("cannot be listed", source)))?;
        let end = format!("-{fingerprint}.csv");
        let is_same = |name: &String| {
            let time = name.strip_prefix(what).and_then(|rest| rest.strip_suffix(&end));
            time.is_some_and(|time| time.len() == "-20260131T120000".len())
        };
        // The names differ in their times only, so the greatest is the newest.
        let Some(newest) = names.into_iter().filter(is_same).max() else { return Ok(None) };
        let path = folder.join(&newest);
        let file = Some(RunFile::open(&path)?);
        Ok(Some(Run { name: newest.trim_end_matches(".csv").to_owned(), path, file }))
    }

    /// Its records.
    pub fn records(&self) -> &[Record] {
        self.file.as_ref().map_or(&[], RunFile::records)
    }

    /// Whether a record is there already.
    pub fn has(&self, cell: Cell, method: &str) -> bool {
        self.records().iter().any(|record| record.cell() == cell && record.method == method)
    }

    /// Puts records into the file, in the place of those of the same method and cell. They are on the disk
    /// when this returns.
    pub fn put(&mut self, records: &[Record]) -> Result<(), RecordError> {
        // Of a size whose methods are all left out.
        if records.is_empty() {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(RunFile::create(&self.path)?),
        };
        file.put(records)
    }
}

/// The names in a folder; none where there is no folder.
fn file_names(folder: &Path) -> io::Result<Vec<String>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(entries) => entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

/// 64 bits of SHA-256 in hexadecimal: the same tomorrow, on another machine and with another compiler. The
/// length of a part goes in before it: ("ab", "c") is not ("a", "bc").
pub fn fingerprint<P: AsRef<[u8]>>(parts: impl IntoIterator<Item = P>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.as_ref().len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    const CELL: Cell = Cell { seq_len: 128, batch: 1, rank: 0 };

    fn begin(folder: &Path, what: &str, time: &str, fingerprint: &str) -> Run {
        Run::begin(folder, what, time.parse().unwrap(), fingerprint)
    }

    #[test]
    fn a_run_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("measurements");
        let what = "grid-linear-1024x1024-cpu";
        assert!(Run::resume(&folder, what, "c0de").unwrap().is_none(), "there is no folder yet");

        let mut run = begin(&folder, what, "2026-01-31T12:00:00.123Z", "c0de");
        assert_eq!(run.name, format!("{what}-20260131T120000-c0de"));
        run.put(&[]).unwrap();
        assert!(!run.path.exists() && run.records().is_empty(), "no record, no file");
        let fused = Cell { rank: 10, ..CELL };
        run.put(&[record("base", CELL, 1e6), record("fused", fused, 2e6)]).unwrap();
        let name = run.name.clone();
        assert!(Run::resume(&folder, what, "c0de").is_err(), "it is being written");
        drop(run);

        let mut run = Run::resume(&folder, what, "c0de").unwrap().expect("the run is there");
        assert_eq!((&run.name, run.records().len()), (&name, 2));
        assert!(run.has(CELL, "base") && run.has(fused, "fused"));
        assert!(!run.has(CELL, "fused") && !run.has(fused, "base"));
        run.put(&[record("fused", fused, 3e6), record("unfused", fused, 4e6)]).unwrap();
        let times: Vec<f64> = run.records().iter().map(|record| record.time_ns).collect();
        assert_eq!(times, [1e6, 3e6, 4e6], "a cell that was measured again is there once");
        drop(run);
        assert_eq!(fused_lora_records::read(&[folder.join(format!("{name}.csv"))]).unwrap().records.len(), 3);
    }

    #[test]
    fn only_the_newest_run_of_the_same_code_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let make = |what: &str, time: &str, code: &str| {
            let mut run = begin(folder.path(), what, time, code);
            run.put(&[record("base", CELL, 1e6)]).unwrap();
            run.name
        };
        make("grid-a", "2026-01-31T12:00:00Z", "c0de");
        let newest = make("grid-a", "2026-02-01T11:00:00Z", "c0de");
        make("grid-a", "2026-02-01T12:00:00Z", "0ther");
        make("grid-a-b", "2026-02-01T13:00:00Z", "c0de");
        make("peers-grid-a", "2026-02-01T14:00:00Z", "c0de");
        let run = Run::resume(folder.path(), "grid-a", "c0de").unwrap().expect("it is there");
        assert_eq!(run.name, newest);
        assert!(Run::resume(folder.path(), "grid-a", "th1rd").unwrap().is_none());
    }

    #[test]
    fn two_runs_at_the_same_second_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let [mut first, mut second] =
            [(); 2].map(|()| begin(folder.path(), "grid", "2026-01-31T12:00:00Z", "c0de"));
        first.put(&[record("base", CELL, 1e6)]).unwrap();
        assert!(second.put(&[record("base", CELL, 1e6)]).is_err());
        assert!(second.records().is_empty());
    }

    #[test]
    fn a_fingerprint_is_of_sha_256_and_knows_where_a_part_ends() {
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
        assert_ne!(fingerprint(["a", ""]), fingerprint(["a"]));
        assert_eq!(fingerprint(["a", "b"]), fingerprint(["a", "b"]));
        assert_eq!(fingerprint([""; 0]), "e3b0c44298fc1c14", "of nothing, as NIST has it");
    }
}

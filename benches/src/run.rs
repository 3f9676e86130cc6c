//! The file that a run writes its records to, and what of it is there already.

use std::path::{Path, PathBuf};
use std::{fs, io};

use fused_lora_records::{Cell, Record, RecordError, RunFile, Timestamp};

use crate::fingerprint::Fingerprint;

/// One run: a name, and the file `<name>.csv`.
///
/// The name is `<what>-<date and time>-<fingerprint>`, so that a run can be found again by what it measures,
/// how, and with which code.
pub struct Run {
    name: String,
    path: PathBuf,
    /// None until there is a record: a run that measures nothing leaves no file.
    file: Option<RunFile>,
}

impl Run {
    /// A run that has nothing yet.
    #[must_use]
    pub fn begin(folder: &Path, what: &str, now: Timestamp, fingerprint: Fingerprint) -> Run {
        // 2026-01-31T12:00:00.123Z → 20260131T120000
        let time = now.to_string().replace(['-', ':'], "");
        let name = format!("{what}-{}-{fingerprint}", &time[.."20260131T120000".len()]);
        let path = folder.join(format!("{name}.csv"));
        Run { name, path, file: None }
    }

    /// The newest run of the same kind and fingerprint; None if there is none.
    ///
    /// # Errors
    ///
    /// If the folder or the file cannot be read, or another process writes the file.
    pub fn resume(folder: &Path, what: &str, fingerprint: Fingerprint) -> Result<Option<Run>, RecordError> {
        let names = file_names(folder).map_err(|source| RecordError::Io {
            path: folder.to_owned(),
            action: "cannot be listed",
            source,
        })?;
        let is_same = |name: &String| {
            let time =
                name.strip_prefix(what).and_then(|rest| rest.strip_suffix(&format!("-{fingerprint}.csv")));
            time.is_some_and(|time| time.len() == "-20260131T120000".len())
        };
        // The names differ in their times only, so the greatest is the newest.
        let Some(newest) = names.into_iter().filter(is_same).max() else { return Ok(None) };
        let path = folder.join(&newest);
        let file = Some(RunFile::open(&path)?);
        let name = newest.trim_end_matches(".csv").to_owned();
        Ok(Some(Run { name, path, file }))
    }

    /// The run's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The run's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its records.
    #[must_use]
    pub fn records(&self) -> &[Record] {
        self.file.as_ref().map_or(&[], RunFile::records)
    }

    /// Whether a record is there already.
    #[must_use]
    pub fn has(&self, cell: Cell, method: &str) -> bool {
        self.records().iter().any(|record| record.cell() == cell && record.method == method)
    }

    /// Puts records into the file, in the place of those of the same method and cell. They are on the disk when this returns.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or written.
    pub fn put(&mut self, records: &[Record]) -> Result<(), RecordError> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::record;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn of(part: &str) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        fingerprint.add(part);
        fingerprint
    }

    const CELL: Cell = Cell { seq_len: 128, batch: 1, rank: 0 };

    #[test]
    fn a_run_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("measurements");
        let what = "grid-linear-1024x1024-cpu";
        assert!(Run::resume(&folder, what, of("code")).unwrap().is_none(), "there is no folder yet");

        let mut run = Run::begin(&folder, what, at("2026-01-31T12:00:00.123Z"), of("code"));
        assert_eq!(run.name(), format!("{what}-20260131T120000-{}", of("code")));
        assert!(!run.path().exists() && run.records().is_empty(), "no record, no file");
        let fused = Cell { rank: 10, ..CELL };
        run.put(&[record("base", CELL, 1e6), record("fused", fused, 2e6)]).unwrap();
        let name = run.name().to_owned();
        assert!(Run::resume(&folder, what, of("code")).is_err(), "it is being written");
        drop(run);

        let mut run = Run::resume(&folder, what, of("code")).unwrap().expect("the run is there");
        assert_eq!((run.name(), run.records().len()), (name.as_str(), 2));
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
            let mut run = Run::begin(folder.path(), what, at(time), of(code));
            run.put(&[record("base", CELL, 1e6)]).unwrap();
            run.name().to_owned()
        };
        make("grid-a", "2026-01-31T12:00:00Z", "code");
        let newest = make("grid-a", "2026-02-01T11:00:00Z", "code");
        make("grid-a", "2026-02-01T12:00:00Z", "other code");
        make("grid-a-b", "2026-02-01T13:00:00Z", "code");
        make("peers-grid-a", "2026-02-01T14:00:00Z", "code");
        let run = Run::resume(folder.path(), "grid-a", of("code")).unwrap().expect("it is there");
        assert_eq!(run.name(), newest);
        assert!(Run::resume(folder.path(), "grid-a", of("third code")).unwrap().is_none());
    }

    #[test]
    fn two_runs_at_the_same_second_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Run::begin(folder.path(), "grid", at("2026-01-31T12:00:00Z"), of("code"));
        let (mut first, mut second) = (begin(), begin());
        first.put(&[record("base", CELL, 1e6)]).unwrap();
        assert!(second.put(&[record("base", CELL, 1e6)]).is_err());
        assert!(second.records().is_empty());
    }
}

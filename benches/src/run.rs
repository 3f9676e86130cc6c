//! The file that a run writes its records to, and what of it is there already.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use fused_lora_records::{Cell, Record, RecordError, RecordFile, Timestamp, Warning, read};

use crate::fingerprint::Fingerprint;

/// One run: a name, and the file `<name>.csv`.
///
/// The name is `<what>-<date and time>-<fingerprint>`, so that a run can be found again by what it measures,
/// how, and with which code.
pub struct Run {
    name: String,
    path: PathBuf,
    /// None until there is a record: a run that measures nothing leaves no file.
    file: Option<RecordFile>,
    done: HashSet<(Cell, String)>,
    written: usize,
}

impl Run {
    /// A run that has nothing yet.
    #[must_use]
    pub fn begin(folder: &Path, what: &str, now: Timestamp, fingerprint: Fingerprint) -> Run {
        // 2026-01-31T12:00:00.123Z → 20260131T120000
        let time = now.to_string().replace(['-', ':'], "");
        let name = format!("{what}-{}-{fingerprint}", &time[.."20260131T120000".len()]);
        let path = folder.join(format!("{name}.csv"));
        Run { name, path, file: None, done: HashSet::new(), written: 0 }
    }

    /// The newest run of the same kind and fingerprint, with what was passed over in its file; None if there
    /// is none.
    ///
    /// # Errors
    ///
    /// If the folder or the file cannot be read, or another process writes the file.
    pub fn resume(
        folder: &Path,
        what: &str,
        fingerprint: Fingerprint,
    ) -> Result<Option<(Run, Vec<Warning>)>, RecordError> {
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
        // Opened first: nobody else writes what is then read.
        let file = RecordFile::open_append(&path)?;
        let found = read(&[&path])?;
        let done = found.records.into_iter().map(|record| (record.cell(), record.method)).collect();
        let name = newest.trim_end_matches(".csv").to_owned();
        Ok(Some((Run { name, path, file: Some(file), done, written: 0 }, found.warnings)))
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

    /// How many records were appended since the run began or was resumed.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// How many records the run has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether the run has no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Whether a record is there already.
    #[must_use]
    pub fn has(&self, cell: Cell, method: &str) -> bool {
        self.done.contains(&(cell, method.to_owned()))
    }

    /// Appends a record; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or written.
    pub fn append(&mut self, record: &Record) -> Result<(), RecordError> {
        if self.file.is_none() {
            self.file = Some(RecordFile::create(&self.path)?);
        }
        if let Some(file) = &mut self.file {
            file.append(record)?;
        }
        self.done.insert((record.cell(), record.method.clone()));
        self.written += 1;
        Ok(())
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

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn of(part: &str) -> Fingerprint {
        let mut fingerprint = Fingerprint::new();
        fingerprint.add(part);
        fingerprint
    }

    fn record(run: &Run, rank: usize, method: &str) -> Record {
        Record {
            run: run.name().to_owned(),
            workload: "linear-1024x1024".to_owned(),
            backend: "cpu".to_owned(),
            device: "some cpu".to_owned(),
            threads: Some(2),
            simd: "avx2".to_owned(),
            driver: String::new(),
            clock_mhz: None,
            cache: "cold".to_owned(),
            method: method.to_owned(),
            d_in: "1024".to_owned(),
            d_out: "1024".to_owned(),
            seq_len: 128,
            batch: 1,
            rank,
            time_ns: 1.0,
            time_lo_ns: None,
            time_hi_ns: None,
            slowdown_pct: None,
            slowdown_lo_pct: None,
            slowdown_hi_pct: None,
            floor_pct: None,
            floor_pad_pct: None,
            gflops: None,
            samples: 10,
            commit: "unknown".to_owned(),
            dirty: false,
            measured_at: at("2026-01-31T12:00:00Z"),
        }
    }

    #[test]
    fn a_run_goes_on_where_it_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("measurements");
        let what = "grid-linear-1024x1024-cpu";
        assert!(Run::resume(&folder, what, of("code")).unwrap().is_none(), "there is no folder yet");

        let mut run = Run::begin(&folder, what, at("2026-01-31T12:00:00.123Z"), of("code"));
        assert_eq!(run.name(), format!("{what}-20260131T120000-{}", of("code")));
        assert!(!run.path().exists(), "no record, no file");
        let (cell, record_0) = (record(&run, 0, "base").cell(), record(&run, 0, "base"));
        run.append(&record_0).unwrap();
        run.append(&record(&run, 10, "fused")).unwrap();
        assert_eq!((run.written(), run.len()), (2, 2));
        let name = run.name().to_owned();
        assert!(Run::resume(&folder, what, of("code")).is_err(), "it is being written");
        drop(run);

        // A kill in the middle of a line.
        let path = folder.join(format!("{name}.csv"));
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"grid-linear");
        fs::write(&path, bytes).unwrap();

        let (mut run, _) = Run::resume(&folder, what, of("code")).unwrap().expect("the run is there");
        assert_eq!((run.name(), run.written(), run.len()), (name.as_str(), 0, 2));
        assert!(run.has(cell, "base") && run.has(Cell { rank: 10, ..cell }, "fused"));
        assert!(!run.has(cell, "fused") && !run.has(Cell { rank: 10, ..cell }, "base"));
        run.append(&record(&run, 10, "unfused")).unwrap();
        drop(run);
        let read = read(&[path]).unwrap();
        assert_eq!(read.records.len(), 3);
        assert_eq!(read.warnings, []);
    }

    #[test]
    fn only_the_newest_run_of_the_same_code_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let make = |what: &str, time: &str, code: &str| {
            let mut run = Run::begin(folder.path(), what, at(time), of(code));
            run.append(&record(&run, 0, "base")).unwrap();
            run.name().to_owned()
        };
        make("grid-a", "2026-01-31T12:00:00Z", "code");
        let newest = make("grid-a", "2026-02-01T11:00:00Z", "code");
        make("grid-a", "2026-02-01T12:00:00Z", "other code");
        make("grid-a-b", "2026-02-01T13:00:00Z", "code");
        make("peers-grid-a", "2026-02-01T14:00:00Z", "code");
        let (run, warnings) = Run::resume(folder.path(), "grid-a", of("code")).unwrap().expect("it is there");
        assert_eq!((run.name(), warnings), (newest.as_str(), Vec::new()));
        assert!(Run::resume(folder.path(), "grid-a", of("third code")).unwrap().is_none());
    }

    #[test]
    fn two_runs_at_the_same_second_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let begin = || Run::begin(folder.path(), "grid", at("2026-01-31T12:00:00Z"), of("code"));
        let (mut first, mut second) = (begin(), begin());
        first.append(&record(&first, 0, "base")).unwrap();
        assert!(second.append(&record(&second, 0, "base")).is_err());
        assert_eq!(second.written(), 0);
    }
}

//! The file of a run: what is put into it, who may write it, and what a kill leaves.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{line, record, text, version_1};
use fused_lora_records::{Fault, Record, RecordError, RunFile, read, to_csv};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.csv");
    (folder, path)
}

/// The names in a file's folder.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path.parent().unwrap()).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fault<T: std::fmt::Debug>(result: Result<T, RecordError>) -> Fault {
    result.unwrap_err().fault
}

fn at_rank(rank: usize) -> Record {
    Record { rank, device: "a, \"b\" and c".into(), ..record() }
}

#[test]
fn a_record_is_there_as_soon_as_it_is_put() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/records.csv");
    let mut file = RunFile::create(&path).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), text(&[]), "there at once");
    let mut written = Vec::new();
    for record in [record(), at_rank(0), at_rank(100)] {
        written.push(record);
        file.put(&written[written.len() - 1..]).unwrap();
        assert_eq!(read(&[&path]).unwrap().records, written);
        assert_eq!(file.records(), written);
        assert_eq!(names(&path), [".records.csv.lock", "records.csv"], "nothing temporary");
    }
    assert_eq!(fs::read(&path).unwrap(), to_csv(&written).unwrap());
    assert_eq!(
        String::from_utf8(to_csv(&written[..1]).unwrap()).unwrap(),
        text(&[line(&[])]),
        "as documented"
    );
}

#[test]
fn a_cell_is_replaced_in_its_place() {
    let (_folder, path) = place();
    let mut file = RunFile::create(&path).unwrap();
    let pilot = [at_rank(0), at_rank(10), at_rank(100)];
    file.put(&pilot).unwrap();
    // Also what does not name the cell may differ, the run among it.
    let better = Record { time_ns: 1_250_000.0, samples: 60, run: "again".into(), ..at_rank(10) };
    let best = Record { time_ns: 1_240_000.0, ..better.clone() };
    file.put(&[at_rank(250), better, best.clone()]).unwrap();
    let [first, _, third] = pilot;
    let expected = [first, best, third, at_rank(250)];
    assert_eq!(read(&[&path]).unwrap().records, expected);
    assert_eq!(file.records(), expected);
}

#[test]
fn what_differs_in_one_key_column_is_another_cell() {
    let (_folder, path) = place();
    let mut file = RunFile::create(&path).unwrap();
    let others = [
        Record { workload: "another".into(), ..record() },
        Record { backend: "another".into(), ..record() },
        Record { device: "another".into(), ..record() },
        Record { cache: "another".into(), ..record() },
        Record { dtype: "another".into(), ..record() },
        Record { adapters: 100, ..record() },
        Record { method: "another".into(), ..record() },
        Record { seq_len: 100, ..record() },
        Record { batch: 100, ..record() },
        Record { rank: 100, ..record() },
    ];
    file.put(&[record()]).unwrap();
    for other in &others {
        file.put(std::slice::from_ref(other)).unwrap();
    }
    assert_eq!(read(&[&path]).unwrap().records, [&[record()][..], &others].concat());
}

#[test]
fn a_refused_record_changes_nothing() {
    let (_folder, path) = place();
    let mut file = RunFile::create(&path).unwrap();
    file.put(&[at_rank(0)]).unwrap();
    let before = fs::read(&path).unwrap();
    let bad = Record { time_ns: f64::NAN, ..at_rank(10) };
    let refused = fault(file.put(&[at_rank(100), bad]));
    assert!(matches!(&refused, Fault::Unwritable(bad) if bad.column == "time_ns"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(file.records(), [at_rank(0)]);
}

#[test]
fn where_the_system_refuses_the_old_file_stays() {
    let (_folder, path) = place();
    let mut file = RunFile::create(&path).unwrap();
    file.put(&[at_rank(0)]).unwrap();
    let before = fs::read(&path).unwrap();
    // A folder is in the temporary file's place.
    fs::create_dir(path.with_file_name(".records.csv.tmp")).unwrap();
    assert!(matches!(fault(file.put(&[at_rank(10)])), Fault::Io(..)));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(file.records(), [at_rank(0)]);
}

/// The old file is never written to: whoever has it open keeps reading the old records.
#[cfg(unix)]
#[test]
fn a_new_file_takes_the_place_of_the_old() {
    use std::io::Read as _;
    let (_folder, path) = place();
    let mut file = RunFile::create(&path).unwrap();
    file.put(&[at_rank(0)]).unwrap();
    let before = fs::read_to_string(&path).unwrap();
    let mut opened = fs::File::open(&path).unwrap();
    file.put(&[at_rank(10)]).unwrap();
    let mut seen = String::new();
    opened.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, before);
}

#[test]
fn an_existing_file_is_not_overwritten() {
    let (_folder, path) = place();
    fs::write(&path, "precious").unwrap();
    assert!(matches!(fault(RunFile::create(&path)), Fault::Io(..)));
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(names(&path), ["records.csv"]);
}

#[test]
fn an_opened_file_goes_on_where_it_was() {
    let (_folder, path) = place();
    let mut file = RunFile::create(&path).unwrap();
    file.put(&[at_rank(0), at_rank(10)]).unwrap();
    drop(file);
    assert_eq!(names(&path), ["records.csv"], "the lock is gone");
    // A kill left a temporary file and a lock file.
    fs::write(path.with_file_name(".records.csv.tmp"), "half a fi").unwrap();
    fs::write(path.with_file_name(".records.csv.lock"), "").unwrap();
    let mut file = RunFile::open(&path).unwrap();
    assert_eq!(file.records(), [at_rank(0), at_rank(10)]);
    file.put(&[at_rank(100)]).unwrap();
    assert_eq!(read(&[&path]).unwrap().records, [at_rank(0), at_rank(10), at_rank(100)]);
    drop(file);
    assert_eq!(names(&path), ["records.csv"]);
}

/// Another program may write line by line, as version 1 was written.
#[test]
fn a_file_that_was_cut_at_any_byte_is_gone_on_with() {
    let (_folder, path) = place();
    let whole = text(&[line(&[]), line(&[("rank", "100")])]);
    let next = Record { rank: 250, ..record() };
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let before = read(&[&path]).unwrap().records;
        RunFile::open(&path).unwrap().put(std::slice::from_ref(&next)).unwrap();
        let after = read(&[&path]).unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(after.records, [before, vec![next.clone()]].concat(), "cut at {cut}");
        assert_eq!(after.warnings, [], "cut at {cut}");
    }
}

#[test]
fn only_files_of_this_version_are_opened() {
    let (_folder, path) = place();
    assert!(matches!(fault(RunFile::open(&path)), Fault::Io(..)), "there is none yet");
    assert_eq!(names(&path), [""; 0], "and no lock");
    let whole = text(&[line(&[])]);
    fs::write(&path, version_1(&whole)).unwrap();
    assert!(matches!(fault(RunFile::open(&path)), Fault::OldVersion));
    let cases = [
        "other text".to_owned(),
        "other text\nin lines\n".to_owned(),
        "# fused-lora-records 1".to_owned(),
        version_1(&whole),
        version_1(&text(&[])),
        whole.replace("records 2", "records 3"),
        whole.replace(",simd", ""),
    ];
    for text in cases {
        fs::write(&path, &text).unwrap();
        assert!(RunFile::open(&path).is_err(), "{text}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "must be left as it was");
    }
}

#[test]
fn a_file_has_one_writer_at_a_time() {
    let (_folder, path) = place();
    let mut first = RunFile::create(&path).unwrap();
    for _ in 0..2 {
        assert!(matches!(fault(RunFile::open(&path)), Fault::InUse));
        assert!(matches!(fault(RunFile::create(&path)), Fault::InUse));
        // The lock outlives the file that it was taken for.
        first.put(&[record()]).unwrap();
    }
    let beside = RunFile::create(path.with_file_name("another.csv")).unwrap();
    drop(first);
    RunFile::open(&path).unwrap().put(&[record()]).unwrap();
    drop(beside);
    assert_eq!(names(&path), ["another.csv", "records.csv"]);
}

/// Threads that open, put and close in turn: none loses what another has put, whatever moment a lock file is
/// removed at.
#[test]
fn writers_in_turn_lose_nothing() {
    const EACH: usize = 30;
    let (_folder, path) = place();
    drop(RunFile::create(&path).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for i in 0..EACH {
                    let mut file = loop {
                        match RunFile::open(path) {
                            Ok(file) => break file,
                            Err(RecordError { fault: Fault::InUse, .. }) => std::thread::yield_now(),
                            Err(other) => panic!("{other}"),
                        }
                    };
                    file.put(&[at_rank(EACH * thread + i)]).unwrap();
                }
            });
        }
    });
    let mut ranks: Vec<usize> = read(&[&path]).unwrap().records.iter().map(|record| record.rank).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, Vec::from_iter(0..4 * EACH));
}

/// A process that puts records until it is killed: whenever that is, the file is whole.
#[test]
fn a_kill_at_any_moment_leaves_a_whole_file() {
    const PATH: &str = "FUSED_LORA_TEST_RUN_FILE";
    if let Some(path) = std::env::var_os(PATH) {
        let mut file = RunFile::open(path).unwrap();
        loop {
            let time_ns = file.records()[0].time_ns + 1.0;
            let records = [0, 10, 100, 250].map(|rank| Record { time_ns, ..at_rank(rank) });
            file.put(&records).unwrap();
        }
    }
    let (_folder, path) = place();
    RunFile::create(&path)
        .unwrap()
        .put(&[0, 10, 100, 250].map(|rank| Record { time_ns: 2e6, ..at_rank(rank) }))
        .unwrap();
    let mut puts = 0.0;
    for kill in 0..20 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_kill_at_any_moment_leaves_a_whole_file"])
            .env(PATH, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_micros(20_000 + 977 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = read(&[&path]).unwrap();
        assert_eq!(found.warnings, []);
        assert_eq!(found.records.len(), 4);
        let time_ns = found.records[0].time_ns;
        assert!(found.records.iter().all(|record| record.time_ns == time_ns), "one put, whole");
        puts = time_ns - 2e6;
    }
    assert!(puts > 0.0, "no process came as far as to put anything");
}

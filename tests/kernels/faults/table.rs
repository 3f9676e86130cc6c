//! The table of the full set of faults, beside the PTX that they were seeded into.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use fused_lora_kernels::ptx;
use sha2::{Digest as _, Sha256};

use crate::suite::all_kernels;

/// What was tried in an entry.
pub(super) struct Row {
    name: &'static str,
    pub(super) classes: usize,
    pub(super) tried: usize,
    pub(super) caught: usize,
    /// Place, action, reason.
    survivors: BTreeSet<(String, String, &'static str)>,
}

impl Row {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, classes: 0, tried: 0, caught: 0, survivors: BTreeSet::new() }
    }

    pub(super) fn survived(&mut self, place: &str, what: &str, reason: &'static str) {
        self.survivors.insert((place.to_owned(), what.to_owned(), reason));
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kernels/ptx/FAULTS.md")
}

/// Of the instructions: what the builder says of itself in comments aside.
fn hash() -> String {
    let mut hasher = Sha256::new();
    for line in
        [ptx::SM80, ptx::SM90A].iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with("//"))
    {
        hasher.update(line);
        hasher.update("\n");
    }
    hasher.finalize().iter().fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// Adds a row, and writes the table with all that there are so far.
pub(super) fn add(row: Row) {
    static ROWS: Mutex<BTreeMap<&'static str, Row>> = Mutex::new(BTreeMap::new());
    let mut rows = ROWS.lock().unwrap_or_else(PoisonError::into_inner);
    rows.insert(row.name, row);
    let mut text = String::from(
        "# Seeded faults\n\nMade by `FUSED_LORA_FAULTS=all cargo test -p fused-lora-tests --test kernels classes`. Every synchronising \
         instruction of every entry is left out, weakened, or made to wait for the wrong thing: all copies of it that the compiler made, and \
         each alone. A fault is caught if the strict machine reports it, or the result is wrong, in one of the entry's cases.\n\n",
    );
    let _ = writeln!(text, "PTX: sha256 {}\n", hash());
    text.push_str("| entry | classes | faults | caught | not missed |\n|---|---:|---:|---:|---:|\n");
    for Row { name, classes, tried, caught, survivors } in rows.values() {
        let _ = writeln!(text, "| {name} | {classes} | {tried} | {caught} | {} |", survivors.len());
    }
    text.push_str(
        "\n## Not missed\n\n| instruction | action | entries | why it is there |\n|---|---|---:|---|\n",
    );
    let mut by_survivor: BTreeMap<_, usize> = BTreeMap::new();
    for survivor in rows.values().flat_map(|row| &row.survivors) {
        *by_survivor.entry(survivor).or_default() += 1;
    }
    for ((place, what, reason), entries) in by_survivor {
        let _ = writeln!(text, "| {place} | {what} | {entries} | {reason} |");
    }
    fs::write(path(), text).expect("the table is written");
}

/// CI fails when the PTX has changed and the full set has not run since.
#[test]
fn the_table_is_of_this_ptx() {
    let again = "run FUSED_LORA_FAULTS=all cargo test -p fused-lora-tests --test kernels classes";
    let text = fs::read_to_string(path()).unwrap_or_else(|error| panic!("FAULTS.md: {error}; {again}"));
    assert!(text.contains(&hash()), "FAULTS.md is of other PTX: {again}");
    for kernel in all_kernels() {
        assert!(text.contains(&format!("| {} |", kernel.name)), "FAULTS.md has no {}: {again}", kernel.name);
    }
}

//! The table of the full set of faults, beside the PTX that they were seeded into.

use std::{
    collections::BTreeMap,
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
    pub(super) name: &'static str,
    pub(super) classes: usize,
    pub(super) tried: usize,
    pub(super) caught: usize,
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

/// The rows of a table: the name of the entry, then the line.
fn rows(text: &str) -> BTreeMap<String, String> {
    let name = |line: &str| line.strip_prefix("| ")?.split_once(" | ").map(|(name, _)| name.to_owned());
    let of_entry = |line: &&str| all_kernels().any(|kernel| name(line).as_deref() == Some(kernel.name));
    text.lines().filter(of_entry).filter_map(|line| Some((name(line)?, line.to_owned()))).collect()
}

/// Writes a row into the table, in place of all rows of other PTX.
pub(super) fn add(row: &Row) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = fs::read_to_string(path()).unwrap_or_default();
    let mut rows = if before.contains(&hash()) { rows(&before) } else { BTreeMap::new() };
    let Row { name, classes, tried, caught } = row;
    rows.insert(
        (*name).to_owned(),
        format!("| {name} | {classes} | {tried} | {caught} | {} |", tried - caught),
    );
    let mut text = String::from(
        "# Seeded faults\n\n\
         Made by `FUSED_LORA_FAULTS=all cargo test -p fused-lora-tests --test kernels classes`. Every synchronising instruction of \
         every entry is left out, weakened, or made to wait for the wrong thing: all copies that the compiler made of it, and each \
         alone. A fault is caught if the strict machine reports it, or if the result is wrong, in one of the entry's cases. What \
         nobody misses is listed, with the reason, in `tests/kernels/faults/redundant.rs`; anything else fails.\n\n",
    );
    let _ = writeln!(text, "PTX: sha256 {}\n", hash());
    text.push_str("| entry | classes | faults | caught | not missed |\n|---|---:|---:|---:|---:|\n");
    for line in rows.values() {
        let _ = writeln!(text, "{line}");
    }
    fs::write(path(), text).expect("the table is written");
}

/// CI fails when the PTX has changed and the full set has not run since.
#[test]
fn the_table_is_of_this_ptx() {
    let again = "run FUSED_LORA_FAULTS=all cargo test -p fused-lora-tests --test kernels classes";
    let text = fs::read_to_string(path()).unwrap_or_else(|error| panic!("FAULTS.md: {error}; {again}"));
    assert!(text.contains(&hash()), "FAULTS.md is of other PTX: {again}");
    let rows = rows(&text);
    for kernel in all_kernels() {
        assert!(rows.contains_key(kernel.name), "FAULTS.md has no {}: {again}", kernel.name);
    }
}

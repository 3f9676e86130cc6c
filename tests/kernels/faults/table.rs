//! The table of the full set of faults, beside the PTX that they were seeded into.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use fused_lora_kernels::{
    ptx,
    table::{Kernel, Target},
};
use regex::{Captures, Regex};
use sha2::{Digest as _, Sha256};

use crate::case::all_kernels;

const AGAIN: &str = "run FUSED_LORA_FAULTS=all cargo test -p fused-lora-tests --test kernels faults::classes";

/// What was tried in an entry.
#[derive(Default)]
pub(super) struct Row {
    pub(super) classes: usize,
    pub(super) tried: usize,
    pub(super) caught: usize,
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../kernels/ptx/FAULTS.md")
}

/// Of an entry's instructions, whatever numbers its registers and labels have: the first digits of their
/// sha256. The compiler numbers them anew when anything in the module changes, which is no change of the entry.
fn hash(kernel: &Kernel) -> String {
    let module = match kernel.target {
        Target::Sm80 => ptx::SM80,
        Target::Sm90a => ptx::SM90A,
    };
    let head = format!(".visible .entry {}(", kernel.name);
    let (_, from_entry) = module.split_once(&head).unwrap_or_else(|| panic!("no entry {}", kernel.name));
    let (entry, _) = from_entry.split_once("\n}").unwrap_or_else(|| panic!("{} has no end", kernel.name));
    // "%rd17" and "$L__BB23_3", in the order in which they appear.
    let names = Regex::new(r"(%[a-z]+|\$L__BB)[0-9]+(?:_[0-9]+)?").expect("a valid expression");
    let mut numbers = HashMap::new();
    let text = names.replace_all(entry, |name: &Captures<'_>| {
        let next = numbers.len();
        format!("{}#{}", &name[1], numbers.entry(name[0].to_owned()).or_insert(next))
    });
    Sha256::digest(text.as_bytes()).iter().take(8).fold(String::new(), |mut hash, byte| {
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

/// The lines of the table in a text, by entry; of entries of other PTX none.
fn current_lines(text: &str) -> BTreeMap<&'static str, String> {
    let line_of = |kernel: &'static Kernel| {
        let start = format!("| {} | {} |", kernel.name, hash(kernel));
        let line = text.lines().find(|line| line.starts_with(&start))?;
        Some((kernel.name, line.to_owned()))
    };
    all_kernels().filter_map(line_of).collect()
}

/// Whether the table has an entry as it is now.
pub(super) fn has(kernel: &Kernel) -> bool {
    current_lines(&fs::read_to_string(path()).unwrap_or_default()).contains_key(kernel.name)
}

/// Writes an entry's row into the table.
pub(super) fn add(kernel: &'static Kernel, row: &Row) {
    static WRITING: Mutex<()> = Mutex::new(());
    let _writing = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines = current_lines(&fs::read_to_string(path()).unwrap_or_default());
    let Row { classes, tried, caught } = row;
    let not_missed = tried - caught;
    let cells = [kernel.name, &hash(kernel)].join(" | ");
    lines.insert(kernel.name, format!("| {cells} | {classes} | {tried} | {caught} | {not_missed} |"));
    let mut text = format!(
        "# Seeded faults\n\n\
         Does the strict machine notice when a kernel is broken? Every synchronising instruction of \
         every kernel is removed, weakened, or made to wait for the wrong thing: in all copies that the \
         compiler made of it, and in each alone. A fault is caught if the machine reports it or the \
         result is wrong in one of the kernel's test cases. Faults that stay uncaught because nothing \
         depends on the instruction are listed with the reason in `tests/kernels/faults/redundant.rs`; \
         any other uncaught fault fails the test.\n\n\
         *PTX*: the first 16 digits of the sha256 of the kernel's text, its registers and labels \
         numbered in the order in which they appear.\n\n\
         *classes*: instructions told apart by the calls that they were inlined by.\n\n\
         To regenerate the table, {AGAIN}; entries whose PTX has not changed are skipped.\n\n\
         | entry | PTX | classes | faults | caught | not missed |\n|---|---|--:|--:|--:|--:|\n"
    );
    for line in lines.values() {
        let _ = writeln!(text, "{line}");
    }
    fs::write(path(), text).expect("the table is written");
}

/// CI fails when an entry has changed and the full set has not run since.
#[test]
fn the_table_is_of_this_ptx() {
    let text = fs::read_to_string(path()).unwrap_or_else(|error| panic!("FAULTS.md: {error}; {AGAIN}"));
    let lines = current_lines(&text);
    let missing: Vec<_> =
        all_kernels().map(|kernel| kernel.name).filter(|name| !lines.contains_key(name)).collect();
    assert!(missing.is_empty(), "FAULTS.md is not of the PTX of {missing:?}: {AGAIN}");
}

//! One number for everything that decides the bytes of the PTX, except for the compiler.

use std::{
    fs,
    path::{MAIN_SEPARATOR, Path, PathBuf},
};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Counted up whenever `ptx` makes other text of the same compiler output.
const POST_PROCESSING: u32 = 2;

/// SHA-256 of the crate in `folder`, built with `flags`, and of the version of the post-processing: `sha256
/// …`.
///
/// Hashed are `Cargo.toml` and all `.rs` files below `src`, sorted by their paths below `folder`, each with
/// its path and lengths, so that no two trees look the same.
///
/// # Errors
///
/// If a file cannot be read.
pub(crate) fn source_hash(folder: &Path, flags: &[String]) -> Result<String> {
    let mut files = vec![PathBuf::from("Cargo.toml")];
    list(folder, Path::new("src"), &mut files)?;
    // As text with one kind of separator, so that the order is the same everywhere.
    let mut files: Vec<_> = files
        .into_iter()
        .map(|file| (file.to_string_lossy().replace(MAIN_SEPARATOR, "/"), folder.join(file)))
        .collect();
    files.sort();

    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(&POST_PROCESSING.to_le_bytes());
    part(&(flags.len() as u64).to_le_bytes());
    flags.iter().for_each(|flag| part(flag.as_bytes()));
    for (name, path) in files {
        part(name.as_bytes());
        part(&fs::read(&path).with_context(|| path.display().to_string())?);
    }
    let digits = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    Ok(format!("sha256 {digits}"))
}

/// Adds the `.rs` files below `folder`/`below` to `files`.
fn list(folder: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let path = folder.join(below);
    for entry in fs::read_dir(&path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(folder, &name, files)?;
        } else if name.extension().is_some_and(|extension| extension == "rs") {
            files.push(name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash of a crate of these files beside three that are always there, built with these flags.
    fn hash(files: &[(&str, &str)], flags: &[&str]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let three = [("Cargo.toml", "[package]"), ("src/lib.rs", "mod a;"), ("src/device/a.rs", "fn a() {}")];
        for (name, text) in three.iter().chain(files) {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        source_hash(folder.path(), &flags).expect("files are there")
    }

    #[test]
    fn sources_and_flags_count_and_do_not_run_together() {
        let all = [
            hash(&[], &[]),
            hash(&[], &["-a"]),
            hash(&[], &["-a", "-b"]),
            hash(&[], &["-a-b"]),
            hash(&[("Cargo.toml", "// changed")], &[]),
            hash(&[("src/lib.rs", "// changed")], &[]),
            hash(&[("src/device/a.rs", "// changed")], &[]),
            hash(&[("src/a.rs", ""), ("src/b.rs", "x")], &[]),
            hash(&[("src/a.rs", ""), ("src/c.rs", "x")], &[]),
            hash(&[("src/a.rs", "src/b.rsx")], &[]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(one.starts_with("sha256 ") && one.len() == 7 + 64, "{one}");
            assert!(!all[..at].contains(one), "case {at}");
        }
    }

    #[test]
    fn neither_the_folder_nor_other_files_count() {
        let with = hash(&[("ptx/sm_80.ptx", ".version"), ("src/notes.md", "text")], &["-a"]);
        assert_eq!(hash(&[], &["-a"]), with);
    }
}

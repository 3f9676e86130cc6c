//! One number for everything that decides the bytes of the PTX, except for the compiler.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::{Error, ptx::POST_PROCESSING};

/// SHA-256 over the kernel crate's manifest and sources, the compiler flags and the version of the post-processing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceHash([u8; 32]);

impl SourceHash {
    /// Of the crate in `folder`, built with `flags`.
    ///
    /// Hashed are `Cargo.toml` and all `.rs` files below `src`, sorted by their paths below `folder`, each with its path
    /// and lengths, so that no two trees look the same.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be read.
    pub fn of(folder: &Path, flags: &[String]) -> Result<Self, Error> {
        let mut files = vec![PathBuf::from("Cargo.toml")];
        list(folder, Path::new("src"), &mut files)?;
        // As text with one kind of separator, so that the order is the same everywhere.
        let mut files: Vec<_> = files
            .into_iter()
            .map(|file| (file.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/"), folder.join(file)))
            .collect();
        files.sort();

        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(&POST_PROCESSING.to_le_bytes());
        part(&(flags.len() as u64).to_le_bytes());
        for flag in flags {
            part(flag.as_bytes());
        }
        for (name, path) in files {
            part(name.as_bytes());
            part(&fs::read(&path).map_err(Error::read(path))?);
        }
        Ok(Self(hash.finalize().into()))
    }

    /// From 64 hexadecimal digits after the name of the hash, as [`fmt::Display`] writes it.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX).unwrap_or(text);
        if digits.len() != 64 || !digits.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

const PREFIX: &str = "sha256 ";

impl fmt::Display for SourceHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Adds the `.rs` files below `folder`/`below` to `files`.
fn list(folder: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let path = folder.join(below);
    for entry in fs::read_dir(&path).map_err(Error::read(&path))? {
        let entry = entry.map_err(Error::read(&path))?;
        let name = below.join(entry.file_name());
        if entry.file_type().map_err(Error::read(&path))?.is_dir() {
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

    /// A crate of three files.
    fn example() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("src/device")).expect("a folder");
        for (name, text) in
            [("Cargo.toml", "[package]"), ("src/lib.rs", "mod a;"), ("src/device/a.rs", "fn a() {}")]
        {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    fn hash(folder: &tempfile::TempDir) -> SourceHash {
        SourceHash::of(folder.path(), &["-Ca".to_owned()]).expect("files are there")
    }

    #[test]
    fn the_same_files_elsewhere_have_the_same_hash() {
        assert_eq!(hash(&example()), hash(&example()));
    }

    #[test]
    fn every_file_counts() {
        for name in ["Cargo.toml", "src/lib.rs", "src/device/a.rs"] {
            let folder = example();
            let before = hash(&folder);
            fs::write(folder.path().join(name), "// changed").expect("a file");
            assert_ne!(hash(&folder), before, "{name}");
        }
    }

    #[test]
    fn names_count() {
        let folder = example();
        let before = hash(&folder);
        fs::rename(folder.path().join("src/device/a.rs"), folder.path().join("src/device/b.rs"))
            .expect("a file");
        assert_ne!(hash(&folder), before);
    }

    #[test]
    fn names_and_contents_do_not_run_together() {
        let (two, one) = (example(), example());
        fs::write(two.path().join("src/a.rs"), "").expect("a file");
        fs::write(two.path().join("src/b.rs"), "x").expect("a file");
        fs::write(one.path().join("src/a.rs"), "src/b.rsx").expect("a file");
        assert_ne!(hash(&two), hash(&one));
    }

    #[test]
    fn other_files_do_not_count() {
        let folder = example();
        let before = hash(&folder);
        fs::create_dir(folder.path().join("ptx")).expect("a folder");
        fs::write(folder.path().join("ptx/sm_80.ptx"), ".version").expect("a file");
        fs::write(folder.path().join("src/notes.md"), "text").expect("a file");
        assert_eq!(hash(&folder), before);
    }

    #[test]
    fn flags_count_and_do_not_run_together() {
        let folder = example();
        let of = |flags: &[&str]| {
            let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
            SourceHash::of(folder.path(), &flags).expect("files are there")
        };
        assert_ne!(of(&["-a", "-b"]), of(&["-a"]));
        assert_ne!(of(&["-a", "-b"]), of(&["-a-b"]));
    }

    #[test]
    fn hexadecimal_and_back() {
        let of = hash(&example());
        assert_eq!(SourceHash::from_hex(&of.to_string()), Some(of));
        for bad in ["", "sha256 12", &"g".repeat(64), &"0".repeat(63), &"é".repeat(32)] {
            assert_eq!(SourceHash::from_hex(bad), None, "{bad}");
        }
    }
}

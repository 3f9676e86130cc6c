//! Which code was measured.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::fingerprint::Fingerprint;

/// The commit, and what the work tree holds beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The commit's name, or `unknown` without git or without a commit.
    pub commit: String,
    /// Whether the work tree differs from that commit.
    pub dirty: bool,
    /// Changes when the uncommitted code changes, so that a resumed run never mixes two versions of it.
    pub changes: Fingerprint,
}

/// What a name of a revision ends in, as `git describe --dirty` has it, if the work tree differed.
const DIRTY: &str = "-dirty";

impl Revision {
    /// The revision of that name, of which there is no work tree here: a commit, and `-dirty` behind it if
    /// the work tree differed from it.
    #[must_use]
    pub fn named(name: &str) -> Revision {
        let mut changes = Fingerprint::new();
        changes.add(name);
        let commit = name.strip_suffix(DIRTY);
        Revision { dirty: commit.is_some(), commit: commit.unwrap_or(name).to_owned(), changes }
    }

    /// The revision of the work tree at `root`.
    #[must_use]
    pub fn of(root: &Path) -> Revision {
        let commit =
            git(root, ["rev-parse", "--verify", "HEAD"], b"").map(|name| text(&name).trim().to_owned());
        let status = git(root, ["status", "--porcelain", "-z"], b"").unwrap_or_default();
        let mut changes = Fingerprint::new();
        if !status.is_empty() {
            changes.add(&status);
            changes.add(git(root, ["diff", "HEAD", "--binary"], b"").unwrap_or_default());
            // `status` names untracked files, but says nothing of what is in them.
            let untracked =
                git(root, ["-c", "core.quotePath=false", "ls-files", "--others", "--exclude-standard"], b"")
                    .unwrap_or_default();
            changes.add(git(root, ["hash-object", "--stdin-paths"], &untracked).unwrap_or_default());
        }
        Revision {
            dirty: commit.is_some() && !status.is_empty(),
            commit: commit.unwrap_or_else(|| "unknown".to_owned()),
            changes,
        }
    }
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// What a git command prints, or None if it fails.
fn git(root: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(arguments)
        // `status` would otherwise refresh the index, which a bench has no business to lock.
        .env("GIT_OPTIONAL_LOCKS", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take()?;
    let input = input.to_vec();
    // From a thread: git may fill its output before it has read all of its input.
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().ok()?;
    let written = writer.join().is_ok_and(|result| result.is_ok());
    (output.status.success() && written).then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn run(root: &Path, arguments: &[&str]) {
        git(root, arguments, b"").unwrap_or_else(|| panic!("git {arguments:?}"));
    }

    #[test]
    fn every_change_shows() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        run(root, &["init", "-q"]);
        run(root, &["config", "user.email", "a@example.org"]);
        run(root, &["config", "user.name", "a"]);
        run(root, &["config", "commit.gpgsign", "false"]);

        let unborn = Revision::of(root);
        assert_eq!((unborn.commit.as_str(), unborn.dirty), ("unknown", false));

        fs::write(root.join("code.rs"), "1").unwrap();
        fs::write(root.join(".gitignore"), "measurements\n").unwrap();
        run(root, &["add", "."]);
        run(root, &["commit", "-q", "-m", "first"]);
        let clean = Revision::of(root);
        assert!(clean.commit.len() >= 40 && !clean.dirty, "{clean:?}");
        assert_eq!(clean, Revision::of(root));

        fs::create_dir(root.join("measurements")).unwrap();
        fs::write(root.join("measurements/run.csv"), "1").unwrap();
        assert_eq!(Revision::of(root), clean, "what git ignores is no change");

        let mut seen = vec![clean.changes];
        let mut expect_new = |what: &str| {
            let revision = Revision::of(root);
            assert!(revision.dirty && revision.commit == clean.commit, "{what}: {revision:?}");
            assert!(!seen.contains(&revision.changes), "{what} does not show");
            seen.push(revision.changes);
        };
        fs::write(root.join("code.rs"), "2").unwrap();
        expect_new("a changed file");
        fs::write(root.join("code.rs"), "3").unwrap();
        expect_new("another change of the same file");
        fs::write(root.join("new.rs"), "1").unwrap();
        expect_new("an untracked file");
        fs::write(root.join("new.rs"), "2").unwrap();
        expect_new("a change in an untracked file");
        run(root, &["add", "new.rs"]);
        expect_new("an added file");
    }

    #[test]
    fn a_name_says_whether_it_is_dirty() {
        let of = |name| {
            let revision = Revision::named(name);
            (revision.commit, revision.dirty)
        };
        assert_eq!(of("0123abc"), ("0123abc".to_owned(), false));
        assert_eq!(of("0123abc-dirty"), ("0123abc".to_owned(), true));
        assert_ne!(Revision::named("0123abc").changes, Revision::named("0123abc-dirty").changes);
    }

    #[test]
    fn without_git_the_commit_is_unknown() {
        let root = tempfile::tempdir().unwrap();
        let revision = Revision::of(&root.path().join("absent"));
        assert_eq!((revision.commit.as_str(), revision.dirty), ("unknown", false));
    }
}

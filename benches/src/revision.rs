//! Which code was measured.

use std::path::Path;
use std::process::Command;

use crate::run::fingerprint;

/// The commit, and what the work tree holds beyond it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// The commit's name, or `unknown` without git or without a commit.
    pub commit: String,
    /// Whether the work tree differs from that commit.
    pub dirty: bool,
    /// A fingerprint that changes when the uncommitted code changes, so that a resumed run never mixes two
    /// versions of it.
    pub changes: String,
}

impl Revision {
    /// The revision of that name, of which there is no work tree here: a commit, and `-dirty` behind it, as
    /// `git describe --dirty` has it, if the work tree differed from it.
    pub fn named(name: &str) -> Revision {
        let commit = name.strip_suffix("-dirty");
        let (dirty, commit) = (commit.is_some(), commit.unwrap_or(name).to_owned());
        Revision { commit, dirty, changes: fingerprint([name]) }
    }

    /// The revision of the work tree at `root`.
    pub fn of(root: &Path) -> Revision {
        let git = |arguments: &[&str]| git(root, arguments);
        let commit = git(&["rev-parse", "--verify", "HEAD"]);
        let status = git(&["status", "--porcelain", "-z"]).unwrap_or_default();
        let mut changes = Vec::new();
        if !status.is_empty() {
            changes.extend(git(&["diff", "HEAD", "--binary"]));
            // `status` names untracked files, but says nothing of what is in them.
            let untracked = git(&["ls-files", "--others", "--exclude-standard", "-z"]).unwrap_or_default();
            let names = untracked.split(|&byte| byte == 0).map(String::from_utf8_lossy);
            changes.extend(names.filter_map(|name| std::fs::read(root.join(&*name)).ok()));
            changes.push(status);
        }
        let dirty = commit.is_some() && !changes.is_empty();
        let text = |name: Vec<u8>| String::from_utf8_lossy(&name).trim().to_owned();
        let commit = commit.map_or_else(|| "unknown".to_owned(), text);
        Revision { dirty, commit, changes: fingerprint(changes) }
    }
}

/// What a git command prints, or None if it fails.
fn git(root: &Path, arguments: &[&str]) -> Option<Vec<u8>> {
    // `status` would otherwise refresh the index, which a bench has no business to lock.
    let mut git = Command::new("git");
    let output = git.arg("-C").arg(root).args(arguments).env("GIT_OPTIONAL_LOCKS", "0").output().ok()?;
    output.status.success().then_some(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn run(root: &Path, arguments: &[&str]) {
        git(root, arguments).unwrap_or_else(|| panic!("git {arguments:?}"));
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

        let mut seen = vec![clean.changes.clone()];
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

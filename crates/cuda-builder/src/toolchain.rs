//! Finding a compiler that can make PTX: one that takes unstable features and has the library's source,
//! because no `core` is shipped for this target.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Error, Result, anyhow, ensure};

use crate::process;

/// Names a rustup toolchain, or the path of a `rustc` with its `cargo` beside it. Goes before the search.
pub const TOOLCHAIN_VARIABLE: &str = "CUDA_BUILDER_TOOLCHAIN";

/// The rustup toolchain that is asked for where there is none of Debian's.
pub const PINNED_NIGHTLY: &str = "nightly-2026-05-20";

/// The oldest release that was tried.
const OLDEST: (u32, u32) = (1, 96);

/// Where Debian's package `rustc-web` puts its compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// A compiler that can make PTX.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    /// Release, commit and LLVM version. Two compilers that say the same of themselves make the same bytes.
    pub(crate) compiler: String,
}

impl Toolchain {
    /// The one that [`TOOLCHAIN_VARIABLE`] names; else Debian's; else [`PINNED_NIGHTLY`]; else `nightly`.
    ///
    /// # Errors
    ///
    /// If there is none: with what was tried and how to get one.
    pub(crate) fn find() -> Result<Self> {
        if let Some(value) = env::var_os(TOOLCHAIN_VARIABLE).filter(|value| !value.is_empty()) {
            let path = Path::new(&value);
            let name = value.to_string_lossy();
            let found = if path.is_file() { Self::at(path) } else { Self::of_rustup(&name) };
            return found.with_context(|| format!("{TOOLCHAIN_VARIABLE}={name} will not do"));
        }
        let mut tried = Vec::new();
        let places: [&dyn Fn() -> Result<Self>; 3] =
            [&|| Self::at(Path::new(DEBIAN_RUSTC)), &|| Self::of_rustup(PINNED_NIGHTLY), &|| {
                Self::of_rustup("nightly")
            }];
        for place in places {
            match place() {
                Ok(found) => return Ok(found),
                Err(why) => tried.push(format!("{why:#}")),
            }
        }
        Err(none(&tried))
    }

    /// Its `cargo`, told to use its `rustc` and nothing of what surrounds us: neither flags nor wrappers nor
    /// the toolchain that runs this program.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(&self.cargo);
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let network = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
            let cargos = text.starts_with("CARGO") && !network.iter().any(|start| text.starts_with(start));
            let rustcs = text.starts_with("RUSTC") || text == "RUSTFLAGS" || text == "RUSTUP_TOOLCHAIN";
            if cargos || rustcs {
                cargo.env_remove(&name);
            }
        }
        // The variable makes stable compilers, such as Debian's, take unstable features; a nightly ignores
        // it.
        cargo.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        cargo
    }

    /// The `rustc` at `path`, with `cargo` beside it, or why it will not do.
    fn at(rustc: &Path) -> Result<Self> {
        let usable = || {
            ensure!(rustc.is_file(), "not there");
            let cargo = rustc.with_file_name("cargo");
            ensure!(cargo.is_file(), "no cargo beside it");
            let ask = |arguments: &[&str]| process::stdout(Command::new(rustc).args(arguments));
            let library =
                Path::new(ask(&["--print", "sysroot"])?.trim()).join("lib/rustlib/src/rust/library");
            ensure!(library.join("core").is_dir(), "no source of the library in {}", library.display());
            Ok(Self { rustc: rustc.to_owned(), cargo, compiler: compiler(&ask(&["-vV"])?)? })
        };
        usable().with_context(|| rustc.display().to_string())
    }

    /// rustup's toolchain `name`. It is never installed from here.
    fn of_rustup(name: &str) -> Result<Self> {
        // `RUSTUP_TOOLCHAIN` is what the outer cargo sets; `--toolchain` goes before it.
        let which = Command::new("rustup").args(["which", "rustc", "--toolchain", name]).output();
        let which = which.map_err(|_| anyhow!("rustup's {name}: no rustup"))?;
        ensure!(which.status.success(), "rustup's {name}: not installed");
        Self::at(Path::new(String::from_utf8_lossy(&which.stdout).trim()))
    }
}

/// Release, commit and LLVM version from `rustc -vV`. The version of LLVM counts: Debian builds the same
/// rustc with another one.
fn compiler(verbose: &str) -> Result<String> {
    let field = |name| {
        let line = verbose.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.with_context(|| format!("`rustc -vV` names no {name}"))
    };
    let (release, commit, llvm) = (field("release")?, field("commit-hash")?, field("LLVM version")?);
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = OLDEST;
    ensure!(
        (numbers.next(), numbers.next()) >= (Some(major), Some(minor)),
        "{release} is older than {major}.{minor}, the oldest that was tried"
    );
    Ok(format!("rustc {release}, commit {commit}, LLVM {llvm}"))
}

fn none(tried: &[String]) -> Error {
    anyhow!(
        "no Rust toolchain here can compile for nvptx64-nvidia-cuda; tried:\n  - {}\n\
         Get one with `scripts/install-gpu-toolchain`, or with\n  \
         rustup toolchain install {PINNED_NIGHTLY} --profile minimal --component rust-src\n\
         or name one in {TOOLCHAIN_VARIABLE} (a rustup toolchain, or the path of a rustc).",
        tried.join("\n  - ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        commit-hash: ac68faa20c58\ncommit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\n\
        release: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn compiler_has_release_commit_and_llvm() {
        assert_eq!(compiler(VERBOSE).expect("a version"), "rustc 1.96.0, commit ac68faa20c58, LLVM 22.1.8");
        let refused = compiler("release: 1.96.0\ncommit-hash: a").unwrap_err();
        assert_eq!(refused.to_string(), "`rustc -vV` names no LLVM version");
    }

    #[test]
    fn old_compilers_are_refused() {
        for (text, tried) in
            [("1.96.0", true), ("1.97.0-nightly", true), ("2.0.0", true), ("1.95.1", false), ("1.9.0", false)]
        {
            let verbose = VERBOSE.replace("release: 1.96.0", &format!("release: {text}"));
            assert_eq!(compiler(&verbose).is_ok(), tried, "{text}");
        }
    }

    #[test]
    fn no_toolchain_says_how_to_get_one() {
        let text = none(&["/usr/bin/rustc: not there".to_owned()]).to_string();
        for part in
            ["/usr/bin/rustc: not there", "scripts/install-gpu-toolchain", PINNED_NIGHTLY, TOOLCHAIN_VARIABLE]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }
}

//! Finding a compiler that can make PTX: one that takes unstable features and has the library's source, because no
//! `core` is shipped for this target.

use std::{
    env, fmt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::process;

/// Names a rustup toolchain, or the path of a `rustc` with its `cargo` beside it. Goes before the search.
pub const TOOLCHAIN_VARIABLE: &str = "CUDA_BUILDER_TOOLCHAIN";

/// The rustup toolchain that is asked for where there is none of Debian's.
pub const PINNED_NIGHTLY: &str = "nightly-2026-05-20";

/// The oldest release that was tried.
const OLDEST: (u32, u32) = (1, 96);

/// Where Debian's package `rustc-web` puts its compiler.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// Why there is no compiler.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ToolchainError {
    /// Nothing was found.
    #[error(
        "no Rust toolchain here can compile for nvptx64-nvidia-cuda; tried:\n{}\n\
         Get one with `scripts/install-gpu-toolchain`, or with\n  \
         rustup toolchain install {PINNED_NIGHTLY} --profile minimal --component rust-src\n\
         or name one in {TOOLCHAIN_VARIABLE} (a rustup toolchain, or the path of a rustc).",
        tried.iter().map(|why| format!("  - {why}")).collect::<Vec<_>>().join("\n")
    )]
    None {
        /// Each place, and why it will not do.
        tried: Vec<String>,
    },

    /// The one that was asked for will not do.
    #[error("{TOOLCHAIN_VARIABLE}={value} will not do: {why}")]
    Asked {
        /// What was asked for.
        value: String,
        /// Why it will not do.
        why: String,
    },
}

/// A compiler that can make PTX.
#[derive(Clone, Debug)]
pub struct Toolchain {
    rustc: PathBuf,
    cargo: PathBuf,
    compiler: Compiler,
}

/// Which compiler: two that say the same of themselves make the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiler(String);

impl Compiler {
    /// From what a header says.
    #[must_use]
    pub fn from_header(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it is new enough.
    fn is_tried(&self) -> bool {
        let mut numbers = self.0.trim_start_matches("rustc ").split('.').map_while(|part| part.parse().ok());
        matches!((numbers.next(), numbers.next()), (Some(major), Some(minor)) if (major, minor) >= OLDEST)
    }

    /// From `rustc -vV`. The version of LLVM counts too: Debian builds the same rustc with another one.
    fn parse(verbose: &str) -> Option<Self> {
        let field = |name| verbose.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (release, commit, llvm) = (field("release")?, field("commit-hash")?, field("LLVM version")?);
        Some(Self(format!("rustc {release}, commit {commit}, LLVM {llvm}")))
    }
}

impl fmt::Display for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Toolchain {
    /// The one that [`TOOLCHAIN_VARIABLE`] names; else Debian's; else [`PINNED_NIGHTLY`]; else `nightly`.
    ///
    /// # Errors
    ///
    /// [`ToolchainError`], with what was tried and how to get one.
    pub fn find() -> Result<Self, ToolchainError> {
        if let Some(value) = env::var_os(TOOLCHAIN_VARIABLE).filter(|value| !value.is_empty()) {
            let value = value.to_string_lossy().into_owned();
            let path = Path::new(&value);
            let found = if path.is_file() { Self::at(path) } else { Self::of_rustup(&value) };
            return found.map_err(|why| ToolchainError::Asked { value, why });
        }
        let mut tried = Vec::new();
        Self::at(Path::new(DEBIAN_RUSTC))
            .or_else(|why| {
                tried.push(why);
                Self::of_rustup(PINNED_NIGHTLY)
            })
            .or_else(|why| {
                tried.push(why);
                Self::of_rustup("nightly")
            })
            .map_err(|why| {
                tried.push(why);
                ToolchainError::None { tried }
            })
    }

    /// The compiler's description of itself.
    #[must_use]
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// Where its `rustc` is.
    #[must_use]
    pub fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// Its `cargo`, told to use its `rustc` and nothing of what surrounds us: neither flags nor wrappers nor the
    /// toolchain that runs this program.
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
        // The variable makes stable compilers, such as Debian's, take unstable features; a nightly ignores it.
        cargo.env("RUSTC", &self.rustc).env("RUSTC_BOOTSTRAP", "1");
        cargo
    }

    /// The `rustc` at `path`, with `cargo` beside it, or why it will not do.
    fn at(rustc: &Path) -> Result<Self, String> {
        let name = rustc.display();
        if !rustc.is_file() {
            return Err(format!("{name}: not there"));
        }
        let cargo = rustc.with_file_name("cargo");
        if !cargo.is_file() {
            return Err(format!("{name}: no cargo beside it"));
        }
        let ask = |arguments: &[&str]| {
            process::stdout(Command::new(rustc).args(arguments)).map_err(|error| format!("{name}: {error}"))
        };
        let sysroot = ask(&["--print", "sysroot"])?;
        let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
        if !library.join("core").is_dir() {
            return Err(format!("{name}: no source of the library in {}", library.display()));
        }
        let compiler = Compiler::parse(&ask(&["-vV"])?)
            .ok_or_else(|| format!("{name}: `rustc -vV` names no release, commit and LLVM version"))?;
        if !compiler.is_tried() {
            return Err(format!(
                "{name}: {compiler} is older than {}.{}, the oldest that was tried",
                OLDEST.0, OLDEST.1
            ));
        }
        Ok(Self { rustc: rustc.to_owned(), cargo, compiler })
    }

    /// rustup's toolchain `name`. It is never installed from here.
    fn of_rustup(name: &str) -> Result<Self, String> {
        // `RUSTUP_TOOLCHAIN` is what the outer cargo sets; `--toolchain` goes before it.
        let which = process::stdout(Command::new("rustup").args(["which", "rustc", "--toolchain", name]))
            .map_err(|error| match error {
                crate::Error::Start { .. } => format!("rustup's {name}: no rustup"),
                _ => format!("rustup's {name}: not installed"),
            })?;
        Self::at(Path::new(which.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERBOSE: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
        commit-hash: ac68faa20c58\ncommit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\n\
        release: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn compiler_has_release_commit_and_llvm() {
        let compiler = Compiler::parse(VERBOSE).expect("a version");
        assert_eq!(compiler.to_string(), "rustc 1.96.0, commit ac68faa20c58, LLVM 22.1.8");
        assert_ne!(Compiler::parse(&VERBOSE.replace("22.1.8", "22.1.2")), Some(compiler));
    }

    #[test]
    fn old_compilers_are_refused() {
        for (text, tried) in
            [("1.96.0", true), ("1.97.0-nightly", true), ("2.0.0", true), ("1.95.1", false), ("1.9.0", false)]
        {
            let compiler = Compiler::parse(&VERBOSE.replace("release: 1.96.0", &format!("release: {text}")));
            assert_eq!(compiler.expect("a version").is_tried(), tried, "{text}");
        }
    }

    #[test]
    fn compiler_without_llvm_is_none() {
        assert_eq!(Compiler::parse("release: 1.96.0\ncommit-hash: a"), None);
    }

    #[test]
    fn no_toolchain_says_how_to_get_one() {
        let text = ToolchainError::None { tried: vec!["/usr/bin/rustc: not there".to_owned()] }.to_string();
        for part in
            ["/usr/bin/rustc: not there", "scripts/install-gpu-toolchain", PINNED_NIGHTLY, TOOLCHAIN_VARIABLE]
        {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }
}

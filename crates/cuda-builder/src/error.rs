//! What can go wrong while building.

use std::{io, path::PathBuf};

use crate::{LinesError, ptx, toolchain};

/// Why there is no PTX, or no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No compiler.
    #[error(transparent)]
    Toolchain(#[from] toolchain::ToolchainError),

    /// A program could not be started.
    #[error("cannot start `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },

    /// A program failed.
    #[error("`{program}` failed ({status}):\n{output}")]
    Failed {
        /// The program and its arguments.
        program: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },

    /// A file could not be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// "read" or "write".
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// cargo succeeded, and the assembly is not there.
    #[error("cargo left no {}: delete its target folder and build again", path.display())]
    NoAssembly {
        /// Where it should be.
        path: PathBuf,
    },

    /// The compiler's PTX is not what it must be.
    #[error(
        "the PTX that the compiler left in {} will not do:\n{}",
        path.display(),
        found.iter().map(|why| format!("  - {why}")).collect::<Vec<_>>().join("\n")
    )]
    Ptx {
        /// Where it is.
        path: PathBuf,
        /// All that is wrong with it.
        found: Vec<ptx::PtxError>,
    },

    /// The lines of the PTX do not match what the compiler printed.
    #[error(transparent)]
    Lines(#[from] LinesError),

    /// The output of ptxas or nvdisasm could not be understood.
    #[error("cannot understand what {program} says: {what}")]
    Output {
        /// Which program.
        program: &'static str,
        /// What is missing or odd.
        what: String,
    },
}

impl Error {
    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action: "read", path, source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action: "write", path, source }
    }
}

//! The comment at the top of PTX that is checked in: what it was made of, and by what.

use std::fmt;

use crate::{SourceHash, toolchain::Compiler};

/// What made a PTX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Hash of the sources, flags and post-processing.
    pub sources: SourceHash,
    /// The compiler.
    pub compiler: Compiler,
    /// Flags of rustc, separated by blanks.
    pub flags: String,
}

/// Why a header could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the PTX has no header line `// {field}: ..`; rebuild it with `cargo run -p cuda-builder`")]
pub struct HeaderError {
    /// What is missing.
    pub field: &'static str,
}

const SOURCES: &str = "sources";
const COMPILER: &str = "compiler";
const FLAGS: &str = "flags";

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "// Made by cuda-builder of the Rust sources beside it: change those, and run `cargo run -p cuda-builder`."
        )?;
        writeln!(f, "// {SOURCES}: {}", self.sources)?;
        writeln!(f, "// {COMPILER}: {}", self.compiler)?;
        writeln!(f, "// {FLAGS}: {}", self.flags)
    }
}

impl Header {
    /// Reads the header of `ptx`.
    ///
    /// # Errors
    ///
    /// [`HeaderError`] if a line is missing, or the hash is none.
    pub fn parse(ptx: &str) -> Result<Self, HeaderError> {
        let field = |field: &'static str| {
            ptx.lines()
                .take_while(|line| line.starts_with("//"))
                .find_map(|line| line.strip_prefix("// ")?.strip_prefix(field)?.strip_prefix(": "))
                .ok_or(HeaderError { field })
        };
        Ok(Self {
            sources: SourceHash::from_hex(field(SOURCES)?).ok_or(HeaderError { field: SOURCES })?,
            compiler: Compiler::from_header(field(COMPILER)?),
            flags: field(FLAGS)?.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            sources: SourceHash::from_hex(&"0123456789abcdef".repeat(4)).expect("64 digits"),
            compiler: Compiler::from_header("rustc 1.96.0, commit a, LLVM 22.1.8"),
            flags: "-Ctarget-cpu=sm_80 -Cllvm-args=-a=1 -b".to_owned(),
        }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Header::parse(&format!("{}.version 7.0\n", header())), Ok(header()));
    }

    #[test]
    fn a_missing_line_is_named() {
        for field in [SOURCES, COMPILER, FLAGS] {
            let text: String = header()
                .to_string()
                .lines()
                .filter(|l| !l.contains(&format!("// {field}")))
                .fold(String::new(), |t, l| t + l + "\n");
            assert_eq!(Header::parse(&text), Err(HeaderError { field }));
        }
    }

    #[test]
    fn lines_below_the_header_do_not_count() {
        assert_eq!(
            Header::parse(&format!(".version 7.0\n{}", header())),
            Err(HeaderError { field: SOURCES })
        );
    }
}

//! The header of a PTX file: what made it.

use std::fmt;

use anyhow::{Context, Result};

/// What decides the bytes of a PTX file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Hash of the sources, flags and post-processing: `sha256 …`.
    pub sources: String,
    /// The compiler's release, commit and LLVM version.
    pub compiler: String,
    /// Flags of rustc, separated by blanks.
    pub flags: String,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sources, compiler, flags } = self;
        writeln!(
            f,
            "// Made by cuda-builder of the Rust sources beside it: change those, and run `cargo run -p \
             cuda-builder`.\n\
             // sources: {sources}\n// compiler: {compiler}\n// flags: {flags}"
        )
    }
}

impl Header {
    /// Reads the header of `ptx`.
    ///
    /// # Errors
    ///
    /// If a line is missing: with its name.
    pub fn parse(ptx: &str) -> Result<Self> {
        let field = |field: &str| {
            let mut header = ptx.lines().take_while(|line| line.starts_with("//"));
            let found =
                header.find_map(|line| line.strip_prefix("// ")?.strip_prefix(field)?.strip_prefix(": "));
            found.map(str::to_owned).with_context(|| {
                format!(
                    "the PTX has no header line `// {field}: ..`; rebuild it with `cargo run -p cuda-builder`"
                )
            })
        };
        Ok(Self { sources: field("sources")?, compiler: field("compiler")?, flags: field("flags")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_a_missing_line_is_named() {
        let header = Header {
            sources: "sha256 0123".to_owned(),
            compiler: "rustc 1.96.0, commit a, LLVM 22.1.8".to_owned(),
            flags: "-Ctarget-cpu=sm_80 -Cllvm-args=-a=1 -b".to_owned(),
        };
        let text = format!("{header}.version 7.0\n");
        assert_eq!(Header::parse(&text).expect("a header"), header);
        for field in ["sources", "compiler", "flags"] {
            let cut = text.replace(&format!("// {field}: "), "// ");
            let refused = Header::parse(&cut).unwrap_err().to_string();
            assert!(refused.contains(&format!("`// {field}: ..`")), "{refused}");
            // Lines below the header do not count.
            let refused = Header::parse(&format!(".version 7.0\n{text}")).unwrap_err().to_string();
            assert!(refused.contains("`// sources: ..`"), "{refused}");
        }
    }
}

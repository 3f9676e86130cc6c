//! The compiler's PTX made into what is checked in: noise taken away, launch bounds and alignments put in,
//! leftovers refused.

mod bounds;
mod header;
mod params;
mod tidy;

pub use bounds::LaunchBounds;
pub use header::{Header, HeaderError};

pub(crate) use bounds::insert as insert_bounds;
pub(crate) use params::align as align_tensor_maps;
pub(crate) use tidy::tidy;

/// Counted up whenever this module makes other text of the same compiler output.
pub const POST_PROCESSING: u32 = 2;

/// Why PTX is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PtxError {
    /// A function that is not an entry: something was not inlined.
    #[error(
        "function `{name}` is left over in the PTX. Everything must be inlined into its entry; most often a panic is \
         left, of an index, a division or an overflow that the compiler cannot rule out"
    )]
    Function {
        /// Its mangled name.
        name: String,
    },

    /// Local memory.
    #[error(
        "entry `{entry}` has local memory: `{line}`. Most often an array is indexed at run time, or a loop over it is \
         not unrolled"
    )]
    Local {
        /// The entry.
        entry: String,
        /// The declaration.
        line: String,
    },

    /// An entry without launch bounds.
    #[error("entry `{entry}` has no row in the table of kernels")]
    NoBounds {
        /// The entry.
        entry: String,
    },

    /// Launch bounds without an entry.
    #[error("the table of kernels has a row for `{entry}`, and the PTX has no such entry")]
    NoEntry {
        /// What the row names.
        entry: String,
    },

    /// Two rows for the same entry.
    #[error("the table of kernels has more than one row for `{entry}`")]
    Twice {
        /// What both name.
        entry: String,
    },

    /// Nowhere to put tensor maps.
    #[error(
        "entry `{entry}` has no struct of 128 bytes or more as its first parameter, where tensor maps could be"
    )]
    NoTensorMaps {
        /// The entry.
        entry: String,
    },

    /// An entry that could not be read.
    #[error("cannot read the parameters of entry `{entry}`")]
    Malformed {
        /// The entry.
        entry: String,
    },
}

/// The names of all entries, in order.
pub(crate) fn entries(ptx: &str) -> impl Iterator<Item = &str> {
    ptx.lines().filter_map(entry_name)
}

/// The entry that is declared on this line, such as `.visible .entry gemm(`.
fn entry_name(line: &str) -> Option<&str> {
    line.split_once(".entry ").map(|(_, after)| name(after))
}

/// The identifier that `text` starts with.
fn name(text: &str) -> &str {
    let text = text.trim_start();
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%')))
        .unwrap_or(text.len());
    &text[..end]
}

/// All that must not be left over: functions ([`PtxError::Function`]) and local memory ([`PtxError::Local`]).
#[must_use]
pub fn leftovers(ptx: &str) -> Vec<PtxError> {
    let mut found = Vec::new();
    let mut entry = "";
    for line in ptx.lines() {
        if let Some(name) = entry_name(line) {
            entry = name;
        } else if let Some((_, after)) = line.split_once(".func") {
            // `.func (.param .b32 result) name(..)`
            let after = after.trim_start();
            let after = after.strip_prefix('(').and_then(|a| a.split_once(')')).map_or(after, |(_, a)| a);
            found.push(PtxError::Function { name: name(after).to_owned() });
        } else if line.trim_start().starts_with(".local") {
            found.push(PtxError::Local { entry: entry.to_owned(), line: line.trim().to_owned() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = ".visible .entry gemm(\n\t.param .u32 gemm_param_0\n)\n{\n\tret;\n}\n";

    #[test]
    fn entries_in_order() {
        let ptx = format!("{ENTRY}\n.visible .entry shrink()\n{{\n}}\n.visible .func f()\n");
        assert_eq!(entries(&ptx).collect::<Vec<_>>(), ["gemm", "shrink"]);
    }

    #[test]
    fn clean_text_passes() {
        assert_eq!(leftovers(ENTRY), []);
    }

    #[test]
    fn functions_are_refused_by_name() {
        for (line, name) in [
            (".func _ZN4core9panicking5panicE(", "_ZN4core9panicking5panicE"),
            (".visible .func  (.param .b32 func_retval0) helper(", "helper"),
            (".extern .func memcpy(", "memcpy"),
        ] {
            let found = leftovers(&format!("{line}\n)\n{ENTRY}"));
            assert_eq!(found, [PtxError::Function { name: name.to_owned() }], "{line}");
        }
    }

    #[test]
    fn local_memory_is_refused_with_its_entry() {
        let line = ".local .align 4 .b8 __local_depot0[512];";
        let ptx = ENTRY.replace("\tret;", &format!("\t{line}\n\tret;"));
        let expected = PtxError::Local { entry: "gemm".to_owned(), line: line.to_owned() };
        assert_eq!(leftovers(&ptx), [expected]);
    }

    #[test]
    fn all_of_them_are_found() {
        let local = ".local .align 4 .b8 __local_depot0[512];";
        let ptx = format!(".func a(\n)\n.func b(\n)\n{}", ENTRY.replace("\tret;", local));
        assert_eq!(leftovers(&ptx).len(), 3);
    }
}

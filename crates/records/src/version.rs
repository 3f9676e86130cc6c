//! The versions of the file, and what a record of version 1 means in the columns that it lacks.

use crate::error::{Fault, VERSION_LINE};

/// What the first line of every version begins with.
const MAGIC: &str = "# fused-lora-records ";

/// A version that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// Without `dtype`, `adapters`, `limit_ns`, `repeated` and `ratio_by`.
    One,
    /// The version that is written.
    Two,
}

impl Version {
    /// The version that a file's first line names.
    pub(crate) fn of(line: &[u8]) -> Result<Version, Fault> {
        if line == VERSION_LINE.as_bytes() {
            return Ok(Version::Two);
        }
        let start = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        match start.strip_prefix(MAGIC) {
            Some("1") => Ok(Version::One),
            Some(version) => Err(Fault::Version(version.to_owned())),
            None => Err(Fault::NotRecords(start)),
        }
    }

    /// Whether its files have that column.
    pub(crate) fn has(self, column: &str) -> bool {
        self == Version::Two || default(column, "").is_none()
    }
}

/// The text that a record of version 1 of that method has in a column that version 1 lacks; none if version 1
/// has the column.
pub(crate) fn default(column: &str, method: &str) -> Option<&'static str> {
    Some(match column {
        // Everything was f16, save what PyTorch ran in another type; that type stands in the method's name.
        "dtype" => match method.split_once('/') {
            Some(("torch-fp32", _)) => "f32",
            Some(("torch-bf16", _)) => "bf16",
            _ => "f16",
        },
        "adapters" => "1",
        "limit_ns" => "",
        "repeated" => "0",
        "ratio_by" => "wall",
        _ => return None,
    })
}

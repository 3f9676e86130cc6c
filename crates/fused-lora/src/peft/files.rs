//! Reading small text files, and what it means if there is none.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::foreign;

/// A configuration or an index is never longer.
const LONGEST: u64 = 64 << 20;

/// Reads a JSON file, which must not be larger than 64 MiB.
pub(super) fn read_text(file: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file)?.take(LONGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than 64 MiB"));
    }
    Ok(text)
}

/// What a text that should be JSON is instead, if that is known.
pub(super) fn foreign_text(text: &[u8]) -> Option<&'static str> {
    let head = &text[..text.len().min(foreign::HEAD)];
    foreign::recognise(head).filter(|_| !head.starts_with(b"{") && !head.starts_with(b"["))
}

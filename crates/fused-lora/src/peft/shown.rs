//! Paths in messages: an index may name a file with a line break, and an error is one line.

use std::{
    fmt::{self, Display, Formatter, Write},
    path::Path,
};

/// The path, with control characters escaped.
pub(super) fn shown(path: &Path) -> impl Display {
    struct Shown<'a>(&'a Path);
    impl Display for Shown<'_> {
        fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
            self.0.to_string_lossy().chars().try_for_each(|c| match c.is_control() {
                true => write!(f, "{}", c.escape_default()),
                false => f.write_char(c),
            })
        }
    }
    Shown(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_line() {
        assert_eq!(shown(Path::new("a b/ü\n\u{1b}[2J\u{85}")).to_string(), "a b/ü\\n\\u{1b}[2J\\u{85}");
    }
}

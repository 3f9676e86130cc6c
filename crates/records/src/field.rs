//! The types that a column can have, and how each is written in a CSV field.
//!
//! Not serde's, which JSON is made with: csv's deserializer takes `+1` and `0x10` for numbers and names no
//! column where a type of ours refuses a text, and its serializer writes 1200000 as 1200000.0.

use std::fmt;
use std::str::FromStr;

use crate::timestamp::{ParseTimestampError, Timestamp};

/// What the ratio to the base was computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Clock {
    /// Wall times of undisturbed rounds.
    Wall,
    /// CPU times, because other processes disturbed most rounds.
    Cpu,
}

/// `wall` or `cpu`, as in the CSV.
impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Clock::Wall { "wall" } else { "cpu" })
    }
}

impl FromStr for Clock {
    type Err = ();

    fn from_str(text: &str) -> Result<Clock, ()> {
        [Clock::Wall, Clock::Cpu].into_iter().find(|clock| clock.to_string() == text).ok_or(())
    }
}

/// The type of a column.
pub(crate) trait Field: Sized {
    /// The field's text, before any quoting; of a number the shortest digits that read back as the same.
    fn to_text(&self) -> String;
    /// The value of a field's text, or why there is none.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// Types that are written as they are displayed, what is said of a text that is none, and which texts are
/// refused though they could be parsed.
macro_rules! fields {
    ($($type:ty, $is_not:expr, $is_refused:expr;)+) => {$(
        impl Field for $type {
            fn to_text(&self) -> String {
                self.to_string()
            }

            fn from_text(text: &str) -> Result<$type, String> {
                let is_refused: fn(&$type, &str) -> bool = $is_refused;
                let value = text.parse().ok().filter(|value| !is_refused(value, text));
                value.ok_or_else(|| $is_not.to_string())
            }
        }
    )+};
}

fields! {
    String, "not a text", |_, _| false;
    // A leading '+' parses, but it is not what is written here.
    usize, "not a whole number", |_, text| text.starts_with('+');
    // Whether it is finite is a rule of the record's.
    f64, "not a number", |_, _| false;
    bool, "neither true nor false", |_, _| false;
    Clock, "neither wall nor cpu", |_, _| false;
    Timestamp, ParseTimestampError, |_, _| false;
}

/// Empty where there is no value. (Not for `String`, whose empty text is a value.)
impl<T: Field> Field for Option<T> {
    fn to_text(&self) -> String {
        self.as_ref().map(T::to_text).unwrap_or_default()
    }

    fn from_text(text: &str) -> Result<Option<T>, String> {
        if text.is_empty() { Ok(None) } else { T::from_text(text).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_must_be_plain() {
        for text in ["", " 1", "1 ", "1,5", "0x10"] {
            assert!(f64::from_text(text).is_err(), "'{text}'");
        }
        for text in ["-1", "+1", "1.0", "", " 1", "99999999999999999999999"] {
            assert!(usize::from_text(text).is_err(), "'{text}'");
        }
        assert_eq!(f64::from_text("-0.4"), Ok(-0.4));
        assert_eq!(f64::from_text("1e3"), Ok(1000.0));
        assert_eq!(Option::<f64>::from_text(""), Ok(None));
        assert_eq!(Option::<f64>::from_text("2.5"), Ok(Some(2.5)));
        assert!(bool::from_text("True").is_err());
    }
}

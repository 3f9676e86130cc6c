//! The types that a column can have, and how each is written in a CSV field.

use crate::{Clock, Timestamp};

/// The type of a column.
pub(crate) trait Field: Sized {
    /// The field's text, before any quoting.
    fn to_text(&self) -> String;
    /// The value of a field's text, or why there is none.
    fn from_text(text: &str) -> Result<Self, String>;
}

impl Field for String {
    fn to_text(&self) -> String {
        self.clone()
    }

    fn from_text(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

impl Field for usize {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Result<usize, String> {
        // A leading '+' parses, but it is not what is written here.
        if text.starts_with('+') {
            return Err("not a whole number".to_owned());
        }
        text.parse().map_err(|_| "not a whole number".to_owned())
    }
}

impl Field for f64 {
    /// The shortest digits that read back as the same number.
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Result<f64, String> {
        let value: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
        if value.is_finite() { Ok(value) } else { Err("not a finite number".to_owned()) }
    }
}

impl Field for bool {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Result<bool, String> {
        text.parse().map_err(|_| "neither true nor false".to_owned())
    }
}

impl Field for Clock {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Result<Clock, String> {
        let clock = [Clock::Wall, Clock::Cpu].into_iter().find(|clock| clock.to_string() == text);
        clock.ok_or_else(|| "neither wall nor cpu".to_owned())
    }
}

impl Field for Timestamp {
    fn to_text(&self) -> String {
        self.to_string()
    }

    fn from_text(text: &str) -> Result<Timestamp, String> {
        text.parse().map_err(|error: crate::ParseTimestampError| error.to_string())
    }
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
    fn numbers_must_be_finite_and_plain() {
        for text in ["NaN", "nan", "inf", "-inf", "infinity", "1e999", "", " 1", "1 ", "1,5", "0x10"] {
            assert!(f64::from_text(text).is_err(), "'{text}'");
        }
        for text in ["-1", "+1", "1.0", "", " 1", "99999999999999999999999"] {
            assert!(usize::from_text(text).is_err(), "'{text}'");
        }
        assert_eq!(f64::from_text("-0.4"), Ok(-0.4));
        assert_eq!(f64::from_text("1e3"), Ok(1000.0));
        assert_eq!(Option::<f64>::from_text(""), Ok(None));
        assert_eq!(Option::<f64>::from_text("2.5"), Ok(Some(2.5)));
        assert!(Option::<f64>::from_text("NaN").is_err());
        assert!(bool::from_text("True").is_err());
    }
}

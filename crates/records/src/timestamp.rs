//! The instant of a measurement, as RFC 3339 in UTC.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant in UTC, to the millisecond when it comes from the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(SystemTime);

impl Timestamp {
    /// This instant.
    #[must_use]
    pub fn now() -> Timestamp {
        // A clock before 1970 is broken; a record that says 1970 shows it, and a panic would cost a grid.
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(UNIX_EPOCH + Duration::from_millis(since_1970.as_millis() as u64))
    }

    /// The day alone, `2026-01-31`.
    #[must_use]
    pub fn date(&self) -> String {
        let mut text = self.to_string();
        text.truncate("2026-01-31".len());
        text
    }
}

/// `2026-01-31T12:00:00.123Z`; a fraction only where there is one.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        match nanos {
            0 => humantime::format_rfc3339_seconds(self.0).fmt(f),
            _ if nanos.is_multiple_of(1_000_000) => humantime::format_rfc3339_millis(self.0).fmt(f),
            _ => humantime::format_rfc3339_nanos(self.0).fmt(f),
        }
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Text that is no instant in UTC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not an instant in UTC as RFC 3339 has it, such as 2026-01-31T12:00:00Z")]
pub struct ParseTimestampError;

impl FromStr for Timestamp {
    type Err = ParseTimestampError;

    fn from_str(text: &str) -> Result<Timestamp, ParseTimestampError> {
        humantime::parse_rfc3339(text).map(Timestamp).map_err(|_| ParseTimestampError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_instant_go_both_ways() {
        for text in ["2026-01-31T12:00:00Z", "2026-12-01T00:00:59.123Z", "1970-01-01T00:00:00.000000001Z"] {
            let instant: Timestamp = text.parse().unwrap();
            assert_eq!(instant.to_string(), text);
            assert_eq!(instant.date(), text[..10]);
        }
        let now = Timestamp::now();
        assert_eq!(now.to_string().parse(), Ok(now));
        assert!(now.to_string().ends_with('Z'));
        assert!(now > "2024-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "now",
            "2026-01-31",
            "2026-01-31 12:00:00",
            "2026-01-31T12:00:00+02:00",
            "2026-13-31T12:00:00Z",
            "2026-01-31T12:00:00.1",
        ] {
            assert_eq!(text.parse::<Timestamp>(), Err(ParseTimestampError), "{text}");
        }
    }
}

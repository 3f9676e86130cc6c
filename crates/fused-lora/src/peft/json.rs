//! JSON as Python writes and reads it: objects keep their order (the first pattern that matches wins), and
//! `NaN` and `Infinity` are words of the language.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Json {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    String(String),
    Array(Vec<Json>),
    /// In the file's order. Keys are unique.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a whole file. The error says line and column.
    pub(super) fn parse(text: &[u8]) -> Result<Json, String> {
        serde_json::from_slice(&quote_constants(text)).map_err(|e| e.to_string())
    }

    /// Null, false, and what is empty: a setting that is off.
    pub(super) fn is_off(&self) -> bool {
        match self {
            Json::Null | Json::Bool(false) => true,
            Json::String(s) => s.is_empty(),
            Json::Array(items) => items.is_empty(),
            Json::Object(entries) => entries.is_empty(),
            Json::Bool(true) | Json::Int(_) | Json::Float(_) => false,
        }
    }

    /// For an error message: on one line, and not longer than that.
    pub(super) fn excerpt(&self) -> String {
        const LONGEST: usize = 80;
        let text = self.to_string();
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text,
        }
    }
}

/// Puts the numbers that Python's `json` writes and JSON lacks in quotes. As strings they are refused where
/// a number is needed, and the error can name the key; unquoted, all that serde could say is "line 20".
fn quote_constants(text: &[u8]) -> Cow<'_, [u8]> {
    const CONSTANTS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    let mut out = Vec::with_capacity(text.len());
    let (mut at, mut in_string, mut changed) = (0, false, false);
    while at < text.len() {
        let byte = text[at];
        if in_string {
            // An escape takes the next byte along, so that `\"` does not end the string.
            let len = if byte == b'\\' { 2.min(text.len() - at) } else { 1 };
            in_string = byte != b'"';
            out.extend_from_slice(&text[at..at + len]);
            at += len;
        } else if let Some(constant) = CONSTANTS.into_iter().find(|c| text[at..].starts_with(c)) {
            out.push(b'"');
            out.extend_from_slice(constant);
            out.push(b'"');
            at += constant.len();
            changed = true;
        } else {
            in_string = byte == b'"';
            out.push(byte);
            at += 1;
        }
    }
    if changed { Cow::Owned(out) } else { Cow::Borrowed(text) }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(b) => write!(f, "{b}"),
            Json::Int(i) => write!(f, "{i}"),
            Json::Float(x) => write!(f, "{x:?}"),
            Json::String(s) => write!(f, "{s:?}"),
            Json::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
            Json::Object(entries) => {
                f.write_str("{")?;
                for (i, (key, value)) in entries.iter().enumerate() {
                    write!(f, "{}{key:?}: {value}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Json, E> {
        Ok(Json::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Json, E> {
        Ok(Json::Int(v.into()))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Json, E> {
        Ok(Json::Int(v.into()))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Json, E> {
        Ok(Json::Float(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Json, E> {
        Ok(Json::String(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut entries: Vec<(String, Json)> = Vec::new();
        let mut known = HashSet::new();
        while let Some((key, value)) = map.next_entry::<String, Json>()? {
            // Which of the two should count? The writer was broken.
            if !known.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            entries.push((key, value));
        }
        Ok(Json::Object(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_order() {
        let Json::Object(entries) = Json::parse(br#"{"z": 1, "a": [2.5, "x"], "m": {"k": null}}"#).unwrap()
        else {
            panic!("not an object")
        };
        assert_eq!(entries.iter().map(|(k, _)| k.as_str()).collect::<Vec<_>>(), ["z", "a", "m"]);
        assert_eq!(entries[1].1, Json::Array(vec![Json::Float(2.5), Json::String("x".into())]));
    }

    #[test]
    fn python_constants_become_strings_outside_of_strings_only() {
        let text = br#"{"NaN \" NaN": NaN, "b": -Infinity, "c": "Infinity\\", "d": [Infinity]}"#;
        assert_eq!(
            Json::parse(text).unwrap().to_string(),
            r#"{"NaN \" NaN": "NaN", "b": "-Infinity", "c": "Infinity\\", "d": ["Infinity"]}"#
        );
        assert!(matches!(quote_constants(br#"{"a": "NaN"}"#), Cow::Borrowed(_)));
        assert_eq!(*quote_constants(br#""\"#), *br#""\"#);
    }

    #[test]
    fn what_is_off() {
        for off in ["null", "false", "\"\"", "[]", "{}"] {
            assert!(Json::parse(off.as_bytes()).unwrap().is_off(), "{off}");
        }
        for on in ["true", "0", "0.0", "\"x\"", "[null]", "{\"a\": null}", "NaN"] {
            assert!(!Json::parse(on.as_bytes()).unwrap().is_off(), "{on}");
        }
    }

    #[test]
    fn errors_say_where() {
        for (text, expected) in [
            (&b"{\"a\": 1,\n \"a\": 2}"[..], "duplicate key \"a\" at line 2"),
            (b"{\"a\": 1", "EOF while parsing an object at line 1"),
            (b"", "EOF"),
            (b"{} x", "trailing characters"),
            (b"{\"a\": \"\xff\"}", "at line 1"),
            (b"{\"a\": 1e999}", "number out of range"),
        ] {
            let error = Json::parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let deep = "[".repeat(100_000);
        assert!(Json::parse(deep.as_bytes()).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn excerpts_are_short_and_cut_between_characters() {
        let long = Json::String("é".repeat(500));
        assert_eq!(long.excerpt().chars().count(), 81);
        assert_eq!(Json::Int(-3).excerpt(), "-3");
    }
}

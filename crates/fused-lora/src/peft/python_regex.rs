//! Regular expressions as Python's `re` reads them, for `fancy-regex`.
//!
//! Both engines take the first alternative that matches and backtrack. What they spell differently is
//! translated: `\Z` and `$`, `[`, `&`, `~` and `-` in a class, a `{` that opens no repetition, octal escapes.
//! What fancy-regex would read in another way, such as the flag `a`, is refused. On names outside of ASCII
//! the classes `\w` and `\s` differ in a few characters.

use std::sync::LazyLock;

use fancy_regex::{Regex, RegexBuilder};

/// Steps after which a match is given up: some 10 ms.
const BACKTRACK_LIMIT: usize = 100_000;

/// Bytes that the automaton of a whole expression may have. One with 200 names of modules fits (tested).
const SIZE_LIMIT: usize = 1 << 20;

/// An expression that matches from the start of a text.
#[derive(Debug)]
pub(super) struct PythonRegex(Regex);

impl PythonRegex {
    /// `re.match`: the match may end anywhere. The error is one line.
    pub(super) fn prefix(expression: &str) -> Result<Self, String> {
        Self::build(&format!(r"\A(?:{})", translate(expression)?))
    }

    /// `re.fullmatch`.
    pub(super) fn full(expression: &str) -> Result<Self, String> {
        Self::build(&format!(r"\A(?:{})\z", translate(expression)?))
    }

    fn build(expression: &str) -> Result<Self, String> {
        require_small(expression)?;
        let regex = RegexBuilder::new(expression).backtrack_limit(BACKTRACK_LIMIT).build();
        regex.map(Self).map_err(one_line)
    }

    pub(super) fn is_match(&self, text: &str) -> Result<bool, String> {
        self.0.is_match(text).map_err(one_line)
    }

    /// What the group of this name matched in `text`, if there is a match.
    pub(super) fn group<'t>(&self, text: &'t str, name: &str) -> Result<Option<&'t str>, String> {
        let captures = self.0.captures(text).map_err(one_line)?;
        Ok(captures.and_then(|captures| captures.name(name)).map(|group| group.as_str()))
    }
}

/// An error if automata for the expression would be too large, as of `x{0,999999}`.
///
/// fancy-regex has a limit for each piece between lookarounds and back references, of which there can be many.
/// So what is measured is one automaton of all pieces together.
fn require_small(expression: &str) -> Result<(), String> {
    static GROUPS: LazyLock<regex::Regex> =
        LazyLock::new(|| regex::Regex::new(r"\(\?(?:<?[=!]|>|\(\w+\))").expect("is correct"));
    // And comments.
    static REFERENCES: LazyLock<regex::Regex> =
        LazyLock::new(|| regex::Regex::new(r"\(\?(?:P=\w+|:\\\d+|#[^)]*)\)").expect("is correct"));
    let pieces = REFERENCES.replace_all(expression, "(?:)");
    let together = GROUPS.replace_all(&pieces, "(?:");
    let built = regex::RegexBuilder::new(&together).size_limit(SIZE_LIMIT).build();
    built.map(drop).map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
        error => last_line(&error.to_string()),
    })
}

/// The error without the drawing of where in the expression it is.
fn one_line(error: fancy_regex::Error) -> String {
    last_line(&error.to_string())
}

fn last_line(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

fn translate(python: &str) -> Result<String, String> {
    let chars: Vec<char> = python.chars().collect();
    let mut out = String::with_capacity(python.len() + 16);
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '\\' => at = escape(&chars, at, false, &mut out)?,
            '[' => at = class(&chars, at, &mut out)?,
            '(' if chars[at + 1..].starts_with(&['?']) => {
                flags(&chars[at + 2..])?;
                out.push('(');
                at += 1;
            }
            '{' => at = repetition(&chars, at, &mut out),
            '}' => {
                out.push_str(r"\}");
                at += 1;
            }
            // Also before a last line feed.
            '$' => {
                out.push_str(r"(?=\n?\z)");
                at += 1;
            }
            other => {
                out.push(other);
                at += 1;
            }
        }
    }
    Ok(out)
}

/// Refuses flags that the engines do not share; `rest` is behind `(?`.
fn flags(rest: &[char]) -> Result<(), String> {
    let letters: String = rest.iter().take_while(|c| c.is_ascii_alphabetic() || **c == '-').collect();
    let closed = matches!(rest.get(letters.len()), Some(')' | ':'));
    match letters.chars().find(|letter| !"is-".contains(*letter)) {
        Some('P') | None => Ok(()),
        Some(letter) if closed => Err(format!("the flag {letter:?} is not supported")),
        Some(_) => Ok(()),
    }
}

/// Python's `{3}`, `{3,}`, `{,3}`, `{3,5}`; any other brace is itself.
fn repetition(chars: &[char], at: usize, out: &mut String) -> usize {
    let end = chars[at..].iter().position(|c| *c == '}').map(|len| at + len);
    let inner: Option<String> = end.map(|end| chars[at + 1..end].iter().collect());
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    match (end, inner.as_deref()) {
        (Some(end), Some(inner)) if !inner.is_empty() => {
            let (low, high) = inner.split_once(',').map_or((inner, None), |(low, high)| (low, Some(high)));
            if is_number(low) && high.is_none_or(is_number) {
                let low = if low.is_empty() { "0" } else { low };
                let high = high.map_or(String::new(), |high| format!(",{high}"));
                out.push_str(&format!("{{{low}{high}}}"));
                return end + 1;
            }
        }
        _ => {}
    }
    out.push_str(r"\{");
    at + 1
}

/// Translates the escape at `at`; returns where it ends.
fn escape(chars: &[char], at: usize, in_class: bool, out: &mut String) -> Result<usize, String> {
    let Some(&letter) = chars.get(at + 1) else { return Err("bad escape at the end".to_owned()) };
    let digits = |from: usize, most: usize, radix: u32| -> String {
        chars[from..].iter().take(most).take_while(|c| c.is_digit(radix)).collect()
    };
    let mut code_point = |digits: &str, radix: u32| {
        let value = u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        value.map(|value| out.push_str(&format!(r"\x{{{:x}}}", u32::from(value))))
    };
    match letter {
        'x' | 'u' | 'U' => {
            let len = match letter {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let text = digits(at + 2, len, 16);
            let read = (text.len() == len).then(|| code_point(&text, 16)).flatten();
            return read.map(|()| at + 2 + len).ok_or(format!("incomplete escape \\{letter}"));
        }
        '0' => {
            let text = digits(at + 1, 3, 8);
            return code_point(&text, 8).map(|()| at + 1 + text.len()).ok_or("bad octal escape".into());
        }
        '1'..='9' => {
            let octal = digits(at + 1, 3, 8);
            if octal.len() == 3 || in_class {
                return match code_point(&octal, 8) {
                    Some(()) if octal.starts_with(['0', '1', '2', '3']) => Ok(at + 1 + octal.len()),
                    _ => Err(format!("bad escape \\{letter}")),
                };
            }
            // A back-reference. The group keeps a digit behind it from becoming part of its number.
            let number = digits(at + 1, 2, 10);
            out.push_str(&format!(r"(?:\{number})"));
            return Ok(at + 1 + number.len());
        }
        'Z' if !in_class => out.push_str(r"\z"),
        'b' if in_class => out.push_str(r"\x08"),
        'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'a' | 'f' | 'n' | 'r' | 't' | 'v' => out.extend(['\\', letter]),
        'A' | 'b' | 'B' if !in_class => out.extend(['\\', letter]),
        letter if letter.is_ascii_alphanumeric() => return Err(format!("bad escape \\{letter}")),
        other => literal(other, out),
    }
    Ok(at + 2)
}

/// A character as itself, in a class or outside.
fn literal(c: char, out: &mut String) {
    if r"\.+*?()|[]{}^$#&-~".contains(c) {
        out.push('\\');
    }
    out.push(c);
}

/// Translates the class that opens at `at`; returns where it ends.
fn class(chars: &[char], mut at: usize, out: &mut String) -> Result<usize, String> {
    let unterminated = || "unterminated character set".to_owned();
    out.push('[');
    at += 1;
    if chars.get(at) == Some(&'^') {
        out.push('^');
        at += 1;
    }
    let first = at;
    loop {
        match *chars.get(at).ok_or_else(unterminated)? {
            ']' if at > first => {
                out.push(']');
                return Ok(at + 1);
            }
            '\\' => at = escape(chars, at, true, out)?,
            // Between two characters it makes a range; elsewhere it is one.
            '-' if at > first && chars.get(at + 1).is_some_and(|next| *next != ']') => {
                if chars[at + 1] == '-' || chars[at - 1] == '-' {
                    return Err("\"--\" in a character set is not supported".to_owned());
                }
                out.push('-');
                at += 1;
            }
            c => {
                literal(c, out);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each row is what Python 3.11's `re.fullmatch(expression, text) is not None` says.
    #[test]
    fn matches_like_python() {
        for (expression, text, expected) in [
            (r".*\.q_proj", "layers.0.q_proj", true),
            (r"(?!.*vision).*\.(q|k)_proj", "text.0.k_proj", true),
            (r"(?!.*vision).*\.(q|k)_proj", "vision.0.k_proj", false),
            (r"(?<!x)y\Z", "y", true),
            (r"a$", "a", true),
            (r"[[]a\]", "[a]", true),
            (r"[a&&b]+", "a&b", true),
            (r"[]x]+", "]x", true),
            (r"[^]x]", "]", false),
            (r"[\w.-]+", "a-b.c", true),
            (r"[.\-_]+", "._-", true),
            (r"a{,2}", "aa", true),
            (r"a{,2}", "aaa", false),
            (r"a{2,}b{1}", "aaab", true),
            (r"a{x}", "a{x}", true),
            (r"a{}", "a{}", true),
            (r"a{1", "a{1", true),
            (r"(a|b)\1", "aa", true),
            (r"(a|b)\1", "ab", false),
            (r"(?P<n>a|b)(?P=n)0", "bb0", true),
            (r"\x61\141\u0061", "aaa", true),
            (r"\_\<\/\-", "_</-", true),
            (r"(?i)Q_PROJ", "q_proj", true),
            (r"(a)?(?(1)b|c)", "ab", true),
            (r"(a)?(?(1)b|c)", "b", false),
            (r"(?P<n>a)(?P=n)+", "aaa", true),
            (r"a(?#one)b", "ab", true),
            (
                &format!(
                    r"^(?!x)(?:.*\.)?(?:{})$",
                    vec!["base_model.model.layers.17.self_attn.q_proj"; 200].join("|")
                ),
                "k",
                false,
            ),
            (r"(?:a|ab)c", "abc", true),
            (r"(?>a|ab)c", "abc", false),
            (r"a++b", "aab", true),
            (r"layers\.(?:[0-9]|1[0-5])\..*", "layers.15.x", true),
            (r"layers\.(?:[0-9]|1[0-5])\..*", "layers.16.x", false),
            (r"", "", true),
            (r"all-linear", "lm_head", false),
        ] {
            let found = PythonRegex::full(expression).and_then(|regex| regex.is_match(text));
            assert_eq!(found, Ok(expected), "{expression} on {text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_in_one_line() {
        for (expression, part) in [
            ("(", ""),
            ("[a", "unterminated"),
            (r"\q", "bad escape"),
            ("\\", "bad escape"),
            (r"(?m)a$", "flag 'm'"),
            (r"(?a)\w", "flag 'a'"),
            (r"[+--]", "--"),
            ("a{99999999}", ""),
            (r"x{0,999999}", "too large"),
            (r"(?:(?:\w{9}){9}){9}", "too large"),
            (&r"(?=\w{15})".repeat(200), "too large"),
            (&r"(a)\1(?:(?=\w{15})\w{15}|\w{15})".repeat(200), "too large"),
        ] {
            let error = PythonRegex::full(expression).unwrap_err();
            assert!(
                error.contains(part) && !error.contains('\n') && !error.is_empty(),
                "{expression}: {error}"
            );
        }
        PythonRegex::full(&"(".repeat(100_000)).unwrap_err();
        let slow = PythonRegex::full(r"(?:(?=a)a+)+b").unwrap();
        assert!(slow.is_match(&"a".repeat(60)).unwrap_err().contains("backtrack"));
    }
}

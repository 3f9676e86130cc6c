//! PTX text as tokens.

/// Where and why a module is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PTX line {line}, column {column}: {reason}")]
pub struct Refused {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// What is not known there.
    pub reason: String,
}

/// A token: a name, opcode, directive or number; a string in quotes; or one other character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Mark(char),
    End,
}

/// The tokens of a text, one after another, with one to look ahead at.
#[derive(Clone)]
pub(crate) struct Text<'a> {
    text: &'a str,
    next: Token<'a>,
    /// Where `next` starts, and where what follows it does.
    start: usize,
    end: usize,
    /// The line of `next`, from 1.
    line: u32,
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'%' | b'.')
}

impl<'a> Text<'a> {
    /// Before the first token of a text.
    pub(crate) fn new(text: &'a str) -> Self {
        let mut tokens = Self { text, next: Token::End, start: 0, end: 0, line: 1 };
        tokens.scan();
        tokens
    }

    /// The token that comes next.
    pub(crate) fn peek(&self) -> Token<'a> {
        self.next
    }

    /// The line of the token that comes next.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    /// Takes a token.
    pub(crate) fn take(&mut self) -> Token<'a> {
        let token = self.next;
        self.scan();
        token
    }

    /// Takes the token if it is this character.
    pub(crate) fn takes(&mut self, mark: char) -> bool {
        let is_it = self.next == Token::Mark(mark);
        if is_it {
            self.scan();
        }
        is_it
    }

    /// Takes this character, or refuses what is there instead.
    pub(crate) fn expect(&mut self, mark: char) -> Result<(), Refused> {
        if self.takes(mark) {
            Ok(())
        } else {
            Err(self.refuse(format!("`{mark}` expected, {}", self.shown())))
        }
    }

    /// Takes a word, or refuses what is there instead.
    pub(crate) fn word(&mut self, what: &str) -> Result<&'a str, Refused> {
        match self.next {
            Token::Word(word) => {
                self.scan();
                Ok(word)
            }
            _ => Err(self.refuse(format!("{what} expected, {}", self.shown()))),
        }
    }

    /// Takes an unsigned decimal number up to `most`.
    pub(crate) fn number(&mut self, what: &str, most: u32) -> Result<u32, Refused> {
        let before = self.clone();
        let word = self.word(what)?;
        let number = word.parse().ok().filter(|&number| number <= most);
        number.ok_or_else(|| before.refuse(format!("{what}: `{word}` is no number up to {most}")))
    }

    /// Takes everything up to a semicolon, and the semicolon.
    pub(crate) fn skip_statement(&mut self) -> Result<(), Refused> {
        loop {
            match self.take() {
                Token::Mark(';') => return Ok(()),
                Token::End => return Err(self.refuse("`;` expected, the text ends".to_owned())),
                _ => {}
            }
        }
    }

    /// Takes everything up to the end of the line of the token that was looked at.
    pub(crate) fn skip_line(&mut self) {
        let line = self.line;
        while self.line == line && self.next != Token::End {
            self.scan();
        }
    }

    /// A refusal at the token that comes next.
    #[cold]
    pub(crate) fn refuse(&self, reason: String) -> Refused {
        let line_start = self.text[..self.start].rfind('\n').map_or(0, |end| end + 1);
        let column = self.text[line_start..self.start].chars().count() as u32 + 1;
        Refused { line: self.line, column, reason }
    }

    /// What comes next, for a refusal.
    pub(crate) fn shown(&self) -> String {
        match self.next {
            Token::Word(word) => format!("`{word}` found"),
            Token::Text(_) => "a string found".to_owned(),
            Token::Mark(mark) => format!("`{mark}` found"),
            Token::End => "the text ends".to_owned(),
        }
    }

    fn scan(&mut self) {
        let bytes = self.text.as_bytes();
        let mut at = self.end;
        loop {
            match bytes.get(at) {
                Some(b'\n') => {
                    self.line += 1;
                    at += 1;
                }
                Some(b' ' | b'\t' | b'\r') => at += 1,
                Some(b'/') if bytes.get(at + 1) == Some(&b'/') => {
                    at += bytes[at..].iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len() - at);
                }
                _ => break,
            }
        }
        self.start = at;
        let Some(&first) = bytes.get(at) else {
            (self.next, self.end) = (Token::End, at);
            return;
        };
        if is_of_word(first) {
            loop {
                at += bytes[at..].iter().position(|&byte| !is_of_word(byte)).unwrap_or(bytes.len() - at);
                // `shared::cta` is one word, `label:` is a word and a colon.
                if bytes[at..].starts_with(b"::") && bytes.get(at + 2).copied().is_some_and(is_of_word) {
                    at += 2;
                } else {
                    break;
                }
            }
            (self.next, self.end) = (Token::Word(&self.text[self.start..at]), at);
        } else if first == b'"' {
            let inside = &self.text[at + 1..];
            let length = inside.find('"').unwrap_or(inside.len());
            self.end = (at + length + 2).min(bytes.len());
            self.next = Token::Text(&inside[..length]);
        } else {
            // The text is cut between characters only.
            let mark = self.text[at..].chars().next().unwrap_or('\0');
            (self.next, self.end) = (Token::Mark(mark), at + mark.len_utf8());
        }
    }
}

/// An integer, or an f32 or f64 by its bits: PTX ISA, "Constants".
pub(super) fn immediate(word: &str) -> Option<u64> {
    if let Some(bits) = word.strip_prefix("0f").or_else(|| word.strip_prefix("0F")) {
        return if bits.len() == 8 { u32::from_str_radix(bits, 16).ok().map(u64::from) } else { None };
    }
    if let Some(bits) = word.strip_prefix("0d").or_else(|| word.strip_prefix("0D")) {
        return if bits.len() == 16 { u64::from_str_radix(bits, 16).ok() } else { None };
    }
    let word = word.strip_suffix('U').unwrap_or(word);
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Token<'_>> {
        let mut tokens = Text::new(text);
        std::iter::from_fn(|| Some(tokens.take()).filter(|&token| token != Token::End)).collect()
    }

    #[test]
    fn names_with_dots_and_colons_are_words() {
        use Token::{Mark, Text, Word};
        let text = "$L__BB0_3: // a label\n\t@!%p1 ld.shared::cta.v2.u32 {%r1, %r2}, [%r3+-8]; \"a;\"";
        let expected = [
            Word("$L__BB0_3"),
            Mark(':'),
            Mark('@'),
            Mark('!'),
            Word("%p1"),
            Word("ld.shared::cta.v2.u32"),
            Mark('{'),
            Word("%r1"),
            Mark(','),
            Word("%r2"),
            Mark('}'),
            Mark(','),
            Mark('['),
            Word("%r3"),
            Mark('+'),
            Mark('-'),
            Word("8"),
            Mark(']'),
            Mark(';'),
            Text("a;"),
        ];
        assert_eq!(all(text), expected);
    }

    #[test]
    fn a_refusal_names_line_and_column() {
        let mut tokens = Text::new("\n  ä ; x");
        tokens.take();
        tokens.take();
        let refused = tokens.expect('}').unwrap_err();
        assert_eq!((refused.line, refused.column), (2, 7));
        assert!(refused.to_string().contains("`}` expected, `x` found"), "{refused}");
    }

    #[test]
    fn whatever_the_text_is_its_tokens_end() {
        for text in ["", "\"", "\"ab", "/", "//", "a::", "::", "é\u{1F600}", "a\r\nb", "."] {
            all(text);
        }
    }
}

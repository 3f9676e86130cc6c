//! Reads a PTX module: its entries, with the statements of their bodies.
//!
//! Read here is what every instruction has in common, guard, opcode and operands, with names resolved; what an opcode means is up to
//! [`decode`](super::decode). PTX ISA 9.0, sections 4 (syntax), 5 (state spaces) and 11 (directives).

use super::{
    body::Body,
    parsed::Parsed,
    shared::Shared,
    text::{Refused, Text, Token},
};

/// Reads a module.
pub(crate) fn parse(text: &str) -> Result<Parsed<'_>, Refused> {
    let mut text = Text::new(text);
    let (mut version, mut target) = (None, None);
    let mut shared = Shared::default();
    let mut entries = Vec::new();
    loop {
        let before = text.clone();
        match text.take() {
            Token::End => break,
            Token::Word(".version") => {
                version = Some(text.word("a version")?);
            }
            Token::Word(".target") => {
                target = Some(text.word("a target")?);
                while text.takes(',') {
                    text.word("an option of the target")?;
                }
            }
            Token::Word(".address_size") => {
                if text.word("an address size")? != "64" {
                    return Err(before.refuse("addresses of other than 64 bits".to_owned()));
                }
            }
            Token::Word(".file" | ".loc") => text.skip_line(),
            Token::Word(".section") => skip_section(&mut text)?,
            Token::Word(".extern") => shared.declare(&mut text, true)?,
            Token::Word(".shared") => shared.declare(&mut text, false)?,
            Token::Word(".visible") => {}
            Token::Word(".entry") => entries.push(Body::entry(&mut text, &shared)?),
            // Constants, such as names of source files. One that is used is refused there.
            Token::Word(".global" | ".const") => text.skip_statement()?,
            _ => return Err(before.refuse(format!("a directive expected, {}", before.shown()))),
        }
    }
    let target = target.ok_or_else(|| text.refuse("the module has no .target".to_owned()))?;
    let version = version.ok_or_else(|| text.refuse("the module has no .version".to_owned()))?;
    Ok(Parsed { version, target, entries })
}

/// Debug information: `.section name { … }`.
fn skip_section(text: &mut Text<'_>) -> Result<(), Refused> {
    while text.peek() != Token::Mark('{') && text.peek() != Token::End {
        text.take();
    }
    text.expect('{')?;
    while !text.takes('}') {
        if text.take() == Token::End {
            return Err(text.refuse("`}` expected, the text ends".to_owned()));
        }
    }
    Ok(())
}

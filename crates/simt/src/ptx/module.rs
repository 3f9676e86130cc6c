//! Reads a PTX module: its entries, with the statements of their bodies.
//!
//! Read here is what every instruction has in common, guard, opcode and operands, with names resolved; what
//! an opcode means is up to [`decode`](super::decode). PTX ISA, "Syntax", "State Spaces, Types, and
//! Variables", "Directives".

use std::collections::HashMap;

use super::{
    body::{Body, Function},
    constants::Constants,
    head::parameters,
    parsed::Parsed,
    shared::Shared,
    text::{Refused, Text, Token},
};

/// Reads a module.
pub(crate) fn parse(text: &str) -> Result<Parsed<'_>, Refused> {
    let mut text = Text::new(text);
    let (mut version, mut target) = (None, None);
    let (mut shared, mut constants) = (Shared::default(), Constants::default());
    // Bodies are read when all that they may name is known.
    let (mut entries, mut functions) = (Vec::new(), HashMap::new());
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
            Token::Word(".extern") if matches!(text.peek(), Token::Word(".func" | ".global" | ".const")) => {
                text.skip_statement()?;
            }
            Token::Word(".extern") => shared.declare(&mut text, true)?,
            Token::Word(".shared") => shared.declare(&mut text, false)?,
            Token::Word(".visible" | ".weak") => {}
            Token::Word(".entry") => {
                entries.push(text.clone());
                skip_body(&mut text)?;
            }
            Token::Word(".func") => {
                let results = parameters(&mut text)?;
                let name = text.word("the name of a function")?;
                let parameters = parameters(&mut text)?;
                while matches!(text.peek(), Token::Word(".noreturn")) {
                    text.take();
                }
                // Without a body it is only announced.
                if !text.takes(';') {
                    functions.insert(name, Function { results, parameters, body: text.clone() });
                    skip_body(&mut text)?;
                }
            }
            Token::Word(".global" | ".const") => constants.declare(&mut text)?,
            _ => return Err(before.refuse(format!("a directive expected, {}", before.shown()))),
        }
    }
    let target = target.ok_or_else(|| text.refuse("the module has no .target".to_owned()))?;
    let version = version.ok_or_else(|| text.refuse("the module has no .version".to_owned()))?;
    let entries = entries.iter_mut().map(|text| Body::entry(text, &shared, &constants, &functions));
    let entries = entries.collect::<Result<_, _>>()?;
    Ok(Parsed { version, target, entries, constants: constants.bytes.into() })
}

/// What stands before a body, and all between its braces.
fn skip_body(text: &mut Text<'_>) -> Result<(), Refused> {
    let mut depth = 0;
    loop {
        match text.take() {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') if depth <= 1 => return Ok(()),
            Token::Mark('}') => depth -= 1,
            Token::End => return Err(text.refuse("`}` expected, the text ends".to_owned())),
            _ => {}
        }
    }
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

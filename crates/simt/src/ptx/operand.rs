//! Reads the operands of an instruction, with names resolved. PTX ISA, "Instruction Operands".

use super::{
    body::Body,
    parsed::{Operand, Special},
    text::{Refused, Token, immediate},
};

impl<'a> Body<'a, '_> {
    /// An operand; those of lists and addresses are deeper.
    pub(super) fn operand(&mut self, depth: u32) -> Result<Operand<'a>, Refused> {
        let before = self.text.clone();
        if depth > 2 {
            return Err(before.refuse("an operand of this depth".to_owned()));
        }
        Ok(match self.text.take() {
            Token::Mark('{') => Operand::List(self.list(depth)?),
            Token::Mark('[') => {
                let base = Box::new(self.operand(2)?);
                let offset = if self.text.takes('+') { self.offset()? } else { 0 };
                let mut coordinates = Vec::new();
                if self.text.takes(',') {
                    self.text.expect('{')?;
                    coordinates = self.list(depth)?;
                }
                self.text.expect(']')?;
                Operand::Address(base, offset, coordinates)
            }
            Token::Mark('!') => {
                let name = self.text.word("a predicate")?;
                Operand::Negated(
                    self.register(name).ok_or_else(|| before.refuse(format!("`{name}` is no register")))?,
                )
            }
            Token::Mark('-') => {
                let word = self.text.word("a number")?;
                let value =
                    immediate(word).ok_or_else(|| before.refuse(format!("`-{word}` is no number")))?;
                Operand::Immediate(value.wrapping_neg())
            }
            Token::Word("_") => self.paired(Operand::Sink)?,
            Token::Word(word) => {
                let operand = self.named(word);
                match operand {
                    Operand::Register(_) => self.paired(operand)?,
                    // `name+8` outside of brackets; within, the address takes it.
                    Operand::Shared(start) if depth == 0 && self.text.takes('+') => {
                        Operand::Shared(start.wrapping_add(self.offset()? as u32))
                    }
                    Operand::Constant(start) if depth == 0 && self.text.takes('+') => {
                        Operand::Constant(start.wrapping_add(self.offset()? as u32))
                    }
                    _ => operand,
                }
            }
            _ => return Err(before.refuse(format!("an operand expected, {}", before.shown()))),
        })
    }

    /// A result, with the second one that may stand behind it: `d|p`.
    fn paired(&mut self, first: Operand<'a>) -> Result<Operand<'a>, Refused> {
        if !self.text.takes('|') {
            return Ok(first);
        }
        let before = self.text.clone();
        let name = self.text.word("a second result")?;
        let second = match self.register(name) {
            Some(register) => Operand::Register(register),
            None if name == "_" => Operand::Sink,
            None => return Err(before.refuse(format!("`{name}` is no register"))),
        };
        Ok(Operand::Pair(Box::new([first, second])))
    }

    /// From behind the brace to the one that closes it.
    fn list(&mut self, depth: u32) -> Result<Vec<Operand<'a>>, Refused> {
        let mut list = Vec::new();
        loop {
            list.push(self.operand(depth + 1)?);
            if !self.text.takes(',') {
                break;
            }
        }
        self.text.expect('}')?;
        Ok(list)
    }

    /// What is added to an address, from behind the plus.
    fn offset(&mut self) -> Result<i64, Refused> {
        let before = self.text.clone();
        let negative = self.text.takes('-');
        let word = self.text.word("an offset")?;
        let value = immediate(word).and_then(|value| i64::try_from(value).ok());
        let value = value.ok_or_else(|| before.refuse(format!("`{word}` is no offset")))?;
        Ok(if negative { -value } else { value })
    }

    fn named(&self, word: &'a str) -> Operand<'a> {
        if let Some(register) = self.register(word) {
            return Operand::Register(register);
        }
        if let Some(special) = Special::named(word) {
            return Operand::Special(special);
        }
        if let Some(value) = immediate(word) {
            return Operand::Immediate(value);
        }
        if let Some(at) = self.variable(word) {
            return Operand::Local(at);
        }
        if let Some(parameter) = self.parameters.iter().find(|parameter| parameter.name == word) {
            return Operand::Parameter(parameter.offset);
        }
        let shared = || self.shared.find(word).map(Operand::Shared);
        self.constants.find(word).map(Operand::Constant).or_else(shared).unwrap_or(Operand::Name(word))
    }
}

//! Reads a PTX module: its entries, with the statements of their bodies.
//!
//! Read here is what every instruction has in common, guard, opcode and operands, with names resolved; what an opcode means is up to
//! [`decode`](super::decode). PTX ISA 9.0, sections 4 (syntax), 5 (state spaces) and 11 (directives).

use std::collections::HashMap;

use super::{
    parsed::{Operand, Parameter, Parsed, ParsedEntry, Special, Statement},
    text::{Refused, Text, Token},
    types::Type,
};

/// The most registers of an entry: their numbers have 16 bits.
const MOST_REGISTERS: u32 = 0xffff;
/// The most bytes of parameters of an entry. PTX ISA 5.1.6.
const MOST_PARAMETERS: u32 = 32_764;
/// The most bytes of shared memory of a CTA, and what a declaration may align it to.
const MOST_SHARED: u32 = 227 * 1024;
const MOST_ALIGN: u32 = 1024;
/// The most of anything else that is counted.
const MOST: u32 = i32::MAX as u32;

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

/// Names of shared memory: what is declared with a size, one behind another, then what has none.
#[derive(Clone, Default)]
struct Shared<'a> {
    sized: Vec<(&'a str, u32)>,
    dynamic: Vec<&'a str>,
    /// Bytes of all with a size.
    end: u32,
}

impl<'a> Shared<'a> {
    /// `.extern .shared .align n .b8 name[];`, from behind `.extern`, or `.shared .align n .b8 name[m];`, from behind `.shared`.
    fn declare(&mut self, text: &mut Text<'a>, is_extern: bool) -> Result<(), Refused> {
        let before = text.clone();
        let (mut align, mut size, mut is_shared) = (None, 1, !is_extern);
        let name = loop {
            match text.word("a declaration of shared memory")? {
                ".align" => align = Some(text.number("an alignment", 1024)?.max(1)),
                ".shared" => is_shared = true,
                word if word.starts_with('.') => {
                    let ty = Type::named(&word[1..]).filter(|ty| ty.bits >= 8 && is_shared);
                    size = ty.ok_or_else(|| before.refuse(format!("`{word}` of shared memory")))?.bits / 8;
                }
                name => break name,
            }
        };
        let mut count = Some(1);
        if text.takes('[') {
            count = None;
            if !text.takes(']') {
                count = Some(text.number("a length", MOST_SHARED)?);
                text.expect(']')?;
            }
        }
        text.expect(';')?;
        match count {
            None => self.dynamic.push(name),
            Some(count) => {
                let start = self.end.next_multiple_of(align.unwrap_or(size));
                self.end =
                    size.checked_mul(count).and_then(|bytes| start.checked_add(bytes)).unwrap_or(u32::MAX);
                if self.end > MOST_SHARED {
                    return Err(before.refuse(format!("more than {MOST_SHARED} bytes of shared memory")));
                }
                self.sized.push((name, start));
            }
        }
        Ok(())
    }

    /// Where a name lies, from the start of shared memory.
    fn find(&self, name: &str) -> Option<u32> {
        let sized = self.sized.iter().find(|(sized, _)| *sized == name).map(|&(_, start)| start);
        sized.or_else(|| self.dynamic.contains(&name).then_some(self.dynamic_start()))
    }

    /// Where dynamic shared memory starts: as its declarations may want to be aligned.
    fn dynamic_start(&self) -> u32 {
        self.end.next_multiple_of(MOST_ALIGN)
    }
}

/// The names that are declared between a pair of braces.
#[derive(Default)]
struct Scope<'a> {
    /// `%r<n>`: the prefix, how many, and the number of the first.
    families: Vec<(&'a str, u32, u16)>,
    registers: HashMap<&'a str, u16>,
    labels: HashMap<&'a str, u32>,
    /// Branches whose label was not seen when the scope they are in ended: statement and label.
    branches: Vec<(usize, &'a str)>,
    /// `name: .branchtargets a, b;`, by name; and the label that came last.
    tables: HashMap<&'a str, Vec<&'a str>>,
    latest: Option<&'a str>,
}

/// The body of an entry while it is read.
struct Body<'a, 't> {
    text: &'t mut Text<'a>,
    shared: Shared<'a>,
    parameters: &'t [Parameter<'a>],
    scopes: Vec<Scope<'a>>,
    statements: Vec<Statement<'a>>,
    registers: u32,
}

impl<'a, 't> Body<'a, 't> {
    /// From behind `.entry` to the brace that ends it.
    fn entry(text: &'t mut Text<'a>, shared: &Shared<'a>) -> Result<ParsedEntry<'a>, Refused> {
        let name = text.word("the name of an entry")?;
        let parameters = parameters(text)?;
        let (mut threads, mut ctas, mut registers) = (None, None, None);
        while text.peek() != Token::Mark('{') {
            let before = text.clone();
            match text.word("a directive of the entry, or its body")? {
                ".maxntid" | ".reqntid" => threads = Some(product(text)?),
                ".maxnreg" => registers = Some(text.number("registers", 256)?),
                ".minnctapersm" => ctas = Some(text.number("CTAs", MOST)?),
                ".reqnctapercluster" => {
                    product(text)?;
                }
                ".explicitcluster" => {}
                word => return Err(before.refuse(format!("`{word}` of an entry"))),
            }
        }
        let mut body = Body {
            text,
            shared: shared.clone(),
            parameters: &parameters,
            scopes: Vec::new(),
            statements: Vec::new(),
            registers: 0,
        };
        body.read()?;
        let Body { statements, registers: register_count, shared, .. } = body;
        let static_shared = shared.dynamic_start();
        Ok(ParsedEntry {
            name,
            parameters,
            threads,
            ctas,
            registers,
            statements,
            static_shared,
            register_count,
        })
    }

    /// All of the body, braces included.
    fn read(&mut self) -> Result<(), Refused> {
        loop {
            let before = self.text.clone();
            match self.text.take() {
                Token::Mark('{') => self.scopes.push(Scope::default()),
                Token::Mark('}') => {
                    self.leave()?;
                    if self.scopes.is_empty() {
                        return Ok(());
                    }
                }
                Token::Mark(';') => {}
                Token::Mark('@') => {
                    let negated = self.text.takes('!');
                    let before = self.text.clone();
                    let name = self.text.word("a predicate")?;
                    let guard = self
                        .register(name)
                        .ok_or_else(|| before.refuse(format!("`{name}` is no register")))?;
                    let at = self.text.clone();
                    let opcode = self.text.word("an opcode")?;
                    self.instruction(Some((guard, negated)), opcode, at)?;
                }
                Token::Word(".reg") => self.declare()?,
                Token::Word(".shared") => self.shared.declare(self.text, false)?,
                Token::Word(".loc") => self.text.skip_line(),
                Token::Word(".pragma") => self.text.skip_statement()?,
                Token::Word(".branchtargets") => self.branch_targets(before)?,
                Token::Word(word) if self.text.takes(':') => {
                    let next = self.statements.len() as u32;
                    self.scope().latest = Some(word);
                    if self.scope().labels.insert(word, next).is_some() {
                        return Err(before.refuse(format!("a second label `{word}`")));
                    }
                }
                Token::Word(opcode) if !opcode.starts_with('.') => self.instruction(None, opcode, before)?,
                _ => return Err(before.refuse(format!("an instruction expected, {}", before.shown()))),
            }
        }
    }

    fn scope(&mut self) -> &mut Scope<'a> {
        self.scopes.last_mut().expect("the brace of the body was read first")
    }

    /// The end of a scope: branches find their labels, or look for them further out.
    fn leave(&mut self) -> Result<(), Refused> {
        let Some(Scope { labels, branches, .. }) = self.scopes.pop() else {
            return Err(self.text.refuse("`}` without `{`".to_owned()));
        };
        for (statement, label) in branches {
            match (labels.get(label), self.scopes.last_mut()) {
                (Some(&target), _) => {
                    let operands = &mut self.statements[statement].operands;
                    operands.pop();
                    operands.push(Operand::Target(target));
                }
                (None, Some(outer)) => outer.branches.push((statement, label)),
                (None, None) => {
                    return Err(self.statements[statement].at.refuse(format!("there is no label `{label}`")));
                }
            }
        }
        Ok(())
    }

    /// `.reg .b32 %r<7>;` or `.reg .pred p, q;`
    fn declare(&mut self) -> Result<(), Refused> {
        let before = self.text.clone();
        let width = self.text.word("the type of registers")?;
        let known = [
            ".pred", ".b8", ".b16", ".b32", ".b64", ".u8", ".u16", ".u32", ".u64", ".s8", ".s16", ".s32",
            ".s64", ".f16", ".f16x2", ".bf16", ".bf16x2", ".f32", ".f64",
        ];
        if !known.contains(&width) {
            return Err(before.refuse(format!("registers of type `{width}`")));
        }
        loop {
            let before = self.text.clone();
            let name = self.text.word("a register")?;
            let first = self.registers;
            let count = if self.text.takes('<') {
                let count = self.text.number("registers", MOST_REGISTERS)?;
                self.text.expect('>')?;
                self.scope().families.push((name, count, first as u16));
                count
            } else {
                self.scope().registers.insert(name, first as u16);
                1
            };
            self.registers += count;
            if self.registers > MOST_REGISTERS {
                return Err(before.refuse(format!("more than {MOST_REGISTERS} registers")));
            }
            if !self.text.takes(',') {
                break;
            }
        }
        self.text.expect(';')
    }

    /// The number of a register.
    fn register(&self, name: &str) -> Option<u16> {
        let prefix = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let digits = &name[prefix.len()..];
        let number: Option<u32> =
            if digits.len() > 1 && digits.starts_with('0') { None } else { digits.parse().ok() };
        self.scopes.iter().rev().find_map(|scope| {
            let of_family = || {
                let number = number?;
                let (_, _, first) =
                    scope.families.iter().find(|(family, count, _)| *family == prefix && number < *count)?;
                Some(first + number as u16)
            };
            scope.registers.get(name).copied().or_else(of_family)
        })
    }

    /// From behind the opcode to the semicolon.
    fn instruction(
        &mut self,
        guard: Option<(u16, bool)>,
        opcode: &'a str,
        at: Text<'a>,
    ) -> Result<(), Refused> {
        let line = at.line();
        let mut operands = Vec::new();
        if !self.text.takes(';') {
            loop {
                operands.push(self.operand(0)?);
                if !self.text.takes(',') {
                    break;
                }
            }
            self.text.expect(';')?;
        }
        if let ("brx.idx" | "brx.idx.uni", [index, Operand::Name(table)]) = (opcode, &operands[..]) {
            let known = self.scopes.iter().rev().find_map(|scope| scope.tables.get(table));
            let labels = known.ok_or_else(|| at.refuse(format!("there are no branch targets `{table}`")))?;
            return self.branch_by_index(guard, index.clone(), labels.clone(), &at);
        }
        if let ("bra" | "bra.uni", [Operand::Name(label)]) = (opcode, &operands[..]) {
            let (statement, label) = (self.statements.len(), *label);
            self.scope().branches.push((statement, label));
        }
        self.statements.push(Statement { guard, opcode, operands, line, at });
        Ok(())
    }

    /// From behind `.branchtargets` to the semicolon; the label before it names them.
    fn branch_targets(&mut self, at: Text<'a>) -> Result<(), Refused> {
        let mut labels = Vec::new();
        loop {
            labels.push(self.text.word("a label")?);
            if !self.text.takes(',') {
                break;
            }
        }
        self.text.expect(';')?;
        let name =
            self.scope().latest.ok_or_else(|| at.refuse("branch targets without a name".to_owned()))?;
        self.scope().tables.insert(name, labels);
        Ok(())
    }

    /// `brx.idx`, as one statement for each target: the index, the target's number, how many there are, and the target.
    fn branch_by_index(
        &mut self,
        guard: Option<(u16, bool)>,
        index: Operand<'a>,
        labels: Vec<&'a str>,
        at: &Text<'a>,
    ) -> Result<(), Refused> {
        let count = Operand::Immediate(labels.len() as u64);
        for (number, label) in labels.into_iter().enumerate() {
            let statement = self.statements.len();
            self.scope().branches.push((statement, label));
            let number = Operand::Immediate(number as u64);
            let operands = vec![index.clone(), number, count.clone(), Operand::Name(label)];
            self.statements.push(Statement {
                guard,
                opcode: "brx.idx",
                operands,
                line: at.line(),
                at: at.clone(),
            });
        }
        Ok(())
    }

    fn operand(&mut self, depth: u32) -> Result<Operand<'a>, Refused> {
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
        if let Some(parameter) = self.parameters.iter().find(|parameter| parameter.name == word) {
            return Operand::Parameter(parameter.offset);
        }
        self.shared.find(word).map_or(Operand::Name(word), Operand::Shared)
    }
}

/// `(.param .align 64 .b8 name[976], …)`, if it is there.
fn parameters<'a>(text: &mut Text<'a>) -> Result<Vec<Parameter<'a>>, Refused> {
    let (mut parameters, mut end) = (Vec::new(), 0u32);
    if !text.takes('(') || text.takes(')') {
        return Ok(parameters);
    }
    loop {
        let before = text.clone();
        let (mut size, mut align, mut is_pointer) = (None, None, false);
        let name = loop {
            match text.word("a parameter")? {
                ".param" | ".global" | ".shared" | ".const" | ".local" => {}
                // What follows is about what it points to.
                ".ptr" => is_pointer = true,
                ".align" => {
                    let value = text.number("an alignment", 1024)?;
                    align = if is_pointer { align } else { Some(value) };
                }
                ".b8" | ".u8" | ".s8" => size = Some(1),
                ".b16" | ".u16" | ".s16" | ".f16" => size = Some(2),
                ".b32" | ".u32" | ".s32" | ".f32" => size = Some(4),
                ".b64" | ".u64" | ".s64" | ".f64" => size = Some(8),
                word if word.starts_with('.') => {
                    return Err(before.refuse(format!("`{word}` of a parameter")));
                }
                name => break name,
            }
        };
        let size: u32 = size.ok_or_else(|| before.refuse(format!("the parameter {name} has no type")))?;
        let mut bytes = size;
        if text.takes('[') {
            bytes = size * text.number("the length of a parameter", MOST_PARAMETERS)?;
            text.expect(']')?;
        }
        let align = align.unwrap_or(size).max(1);
        let offset = end.next_multiple_of(align);
        end = offset + bytes;
        if end > MOST_PARAMETERS {
            return Err(before.refuse(format!("more than {MOST_PARAMETERS} bytes of parameters")));
        }
        parameters.push(Parameter { name, offset, bytes, align });
        if !text.takes(',') {
            break;
        }
    }
    text.expect(')')?;
    Ok(parameters)
}

/// `384, 1, 1`.
fn product(text: &mut Text<'_>) -> Result<u32, Refused> {
    let mut product = text.number("a dimension", MOST)?;
    while text.takes(',') {
        product = product.saturating_mul(text.number("a dimension", MOST)?);
    }
    Ok(product)
}

/// An integer, or an f32 or f64 by its bits: PTX ISA 4.5.
fn immediate(word: &str) -> Option<u64> {
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

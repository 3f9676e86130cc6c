//! Reads the body of an entry: its registers, labels and statements. PTX ISA 4, 11.

use std::collections::HashMap;

use super::{
    head::{MOST, parameters, product},
    parsed::{Operand, Parameter, ParsedEntry, Statement},
    shared::Shared,
    text::{Refused, Text, Token},
};

/// The most registers of an entry: their numbers have 16 bits.
const MOST_REGISTERS: u32 = 0xffff;

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
pub(super) struct Body<'a, 't> {
    pub(super) text: &'t mut Text<'a>,
    pub(super) shared: Shared<'a>,
    pub(super) parameters: &'t [Parameter<'a>],
    scopes: Vec<Scope<'a>>,
    statements: Vec<Statement<'a>>,
    registers: u32,
}

impl<'a, 't> Body<'a, 't> {
    /// From behind `.entry` to the brace that ends it.
    pub(super) fn entry(text: &'t mut Text<'a>, shared: &Shared<'a>) -> Result<ParsedEntry<'a>, Refused> {
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
    pub(super) fn register(&self, name: &str) -> Option<u16> {
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
}

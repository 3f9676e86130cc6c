//! Reads the body of an entry: its registers, labels and statements. PTX ISA, "Syntax", 11.

use std::collections::HashMap;

use super::{
    constants::Constants,
    head::{MOST, parameters, product},
    parsed::{Operand, Parameter, ParsedEntry, Statement},
    shared::{Shared, variable},
    text::{Refused, Text, Token},
};

/// The most registers of an entry: their numbers have 16 bits.
const MOST_REGISTERS: u32 = 0xfffe;

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
    /// Variables in local memory, the parameters of calls among them.
    variables: HashMap<&'a str, u32>,
    /// Whether it is the body of a function: names further out are not its.
    is_function: bool,
}

/// A function: it is read again wherever it is called, as a part of its caller.
pub(super) struct Function<'a> {
    pub(super) results: Vec<Parameter<'a>>,
    pub(super) parameters: Vec<Parameter<'a>>,
    pub(super) body: Text<'a>,
}

/// The label behind a function's body, which no text can name.
const END: &str = "";
/// How deep functions may call each other, and the most bytes of local memory of a lane: that of the manual.
const MOST_CALLS: usize = 32;
const MOST_LOCAL: u32 = 512 * 1024;

/// The body of an entry while it is read.
pub(super) struct Body<'a, 't> {
    pub(super) text: &'t mut Text<'a>,
    pub(super) shared: Shared<'a>,
    pub(super) parameters: &'t [Parameter<'a>],
    pub(super) constants: &'t Constants<'a>,
    functions: &'t HashMap<&'a str, Function<'a>>,
    scopes: Vec<Scope<'a>>,
    statements: Vec<Statement<'a>>,
    registers: u32,
    /// Their bits.
    widths: Vec<u8>,
    /// Bytes of local memory.
    local: u32,
}

impl<'a, 't> Body<'a, 't> {
    /// From behind `.entry` to the brace that ends it.
    pub(super) fn entry(
        text: &'t mut Text<'a>,
        shared: &Shared<'a>,
        constants: &'t Constants<'a>,
        functions: &'t HashMap<&'a str, Function<'a>>,
    ) -> Result<ParsedEntry<'a>, Refused> {
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
            constants,
            functions,
            scopes: Vec::new(),
            statements: Vec::new(),
            registers: 0,
            widths: Vec::new(),
            local: 0,
        };
        body.read(0)?;
        let Body { statements, registers: register_count, shared, local, .. } = body;
        let static_shared = shared.dynamic_start();
        Ok(ParsedEntry {
            name,
            parameters,
            threads,
            ctas,
            registers,
            statements,
            static_shared,
            local,
            register_count,
        })
    }

    /// All of the body, braces included, in scopes from this depth on.
    fn read(&mut self, depth: usize) -> Result<(), Refused> {
        loop {
            let before = self.text.clone();
            match self.text.take() {
                Token::Mark('{') => self.scopes.push(Scope::default()),
                Token::Mark('}') => {
                    self.leave()?;
                    if self.scopes.len() == depth {
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
                Token::Word(".local" | ".param") => {
                    let (name, align, bytes) = variable(self.text, MOST_LOCAL)?;
                    let bytes =
                        bytes.ok_or_else(|| before.refuse("local memory without a length".to_owned()))?;
                    let start = self.local.next_multiple_of(align);
                    self.local =
                        start.checked_add(bytes).filter(|&end| end <= MOST_LOCAL).ok_or_else(|| {
                            before.refuse(format!("more than {MOST_LOCAL} bytes of local memory"))
                        })?;
                    self.scope().variables.insert(name, start);
                }
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
        let end = self.statements.len() as u32;
        let Some(Scope { mut labels, branches, is_function, .. }) = self.scopes.pop() else {
            return Err(self.text.refuse("`}` without `{`".to_owned()));
        };
        if is_function {
            labels.insert(END, end);
        }
        for (statement, label) in branches {
            match (labels.get(label), self.scopes.last_mut().filter(|_| !is_function)) {
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
            let bits = width.trim_start_matches(|first: char| !first.is_ascii_digit());
            let bits = if width == ".pred" { 1 } else { bits.trim_end_matches("x2").parse().unwrap_or(32) };
            self.widths
                .resize((self.registers + count) as usize, if width.ends_with("x2") { 32 } else { bits });
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

    /// Scopes whose names are seen here, from the innermost on.
    fn visible(&self) -> impl Iterator<Item = &Scope<'a>> {
        let outermost = self.scopes.iter().rposition(|scope| scope.is_function).unwrap_or(0);
        self.scopes[outermost..].iter().rev()
    }

    /// Where a variable lies in local memory.
    pub(super) fn variable(&self, name: &str) -> Option<u32> {
        self.visible().find_map(|scope| scope.variables.get(name).copied())
    }

    /// The number of a register.
    pub(super) fn register(&self, name: &str) -> Option<u16> {
        let prefix = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let digits = &name[prefix.len()..];
        let number: Option<u32> =
            if digits.len() > 1 && digits.starts_with('0') { None } else { digits.parse().ok() };
        self.visible().find_map(|scope| {
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
        if matches!(opcode, "call" | "call.uni") {
            return self.call(guard, &at);
        }
        if opcode.starts_with("ret") && self.scopes.iter().any(|scope| scope.is_function) {
            self.text.expect(';')?;
            self.branch(guard, END, &at);
            return Ok(());
        }
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
            let known = self.visible().find_map(|scope| scope.tables.get(table));
            let labels = known.ok_or_else(|| at.refuse(format!("there are no branch targets `{table}`")))?;
            return self.branch_by_index(guard, index.clone(), labels.clone(), &at);
        }
        if let ("bra" | "bra.uni", [Operand::Name(label)]) = (opcode, &operands[..]) {
            let (statement, label) = (self.statements.len(), *label);
            self.scope().branches.push((statement, label));
        }
        self.statements.push(Statement { guard, opcode, operands, line, at });
        self.extend_signs();
        Ok(())
    }

    /// What a load or conversion to a signed type leaves in a wider register is extended, by a statement of
    /// its own.
    fn extend_signs(&mut self) {
        let Some(Statement { guard, opcode, operands, line, at }) = self.statements.last() else { return };
        let mut parts = opcode.split('.').rev();
        let bits = match (opcode.split('.').next(), parts.next(), parts.next()) {
            (Some("ld"), Some("s8"), _) | (Some("cvt"), _, Some("s8")) => 8,
            (Some("ld"), Some("s16"), _) | (Some("cvt"), _, Some("s16")) => 16,
            (Some("ld"), Some("s32"), _) | (Some("cvt"), _, Some("s32")) => 32,
            _ => return,
        };
        let results = match operands.first() {
            Some(Operand::List(list)) => &list[..],
            Some(one) => std::slice::from_ref(one),
            None => return,
        };
        let extended = results.iter().filter_map(|result| {
            let Operand::Register(register) = result else { return None };
            let opcode = match (self.widths.get(usize::from(*register))?, bits) {
                (16, 8) => "cvt.s16.s8",
                (32, 8) => "cvt.s32.s8",
                (64, 8) => "cvt.s64.s8",
                (32, 16) => "cvt.s32.s16",
                (64, 16) => "cvt.s64.s16",
                (64, 32) => "cvt.s64.s32",
                _ => return None,
            };
            let operands = vec![result.clone(), result.clone()];
            Some(Statement { guard: *guard, opcode, operands, line: *line, at: at.clone() })
        });
        let extended: Vec<_> = extended.collect();
        self.statements.extend(extended);
    }

    /// A branch to a label.
    fn branch(&mut self, guard: Option<(u16, bool)>, label: &'a str, at: &Text<'a>) {
        let statement = self.statements.len();
        self.scope().branches.push((statement, label));
        let operands = vec![Operand::Name(label)];
        self.statements.push(Statement { guard, opcode: "bra", operands, line: at.line(), at: at.clone() });
    }

    /// `call (result), function, (arguments);`, from behind the opcode: the body of the function in its
    /// place, whose results and parameters are the variables that are named.
    fn call(&mut self, guard: Option<(u16, bool)>, at: &Text<'a>) -> Result<(), Refused> {
        let mut results = Vec::new();
        if self.text.peek() == Token::Mark('(') {
            results = self.arguments()?;
            self.text.expect(',')?;
        }
        let before = self.text.clone();
        let name = self.text.word("the name of a function")?;
        let arguments = if self.text.takes(',') { self.arguments()? } else { Vec::new() };
        self.text.expect(';')?;
        let functions = self.functions;
        let function =
            functions.get(name).ok_or_else(|| before.refuse(format!("there is no function `{name}`")))?;
        let depth = self.scopes.len();
        let calls = self.scopes.iter().filter(|scope| scope.is_function).count();
        if calls == MOST_CALLS {
            return Err(before.refuse(format!("more than {MOST_CALLS} calls in each other, or a recursion")));
        }
        let places = [(&results, &function.results), (&arguments, &function.parameters)];
        if places.iter().any(|(given, wanted)| given.len() != wanted.len()) {
            return Err(before.refuse(format!("a call of `{name}` with other parameters than it has")));
        }
        let names = places.iter().flat_map(|(given, wanted)| wanted.iter().zip(&**given));
        let variables = names.map(|(parameter, &place)| (parameter.name, place)).collect();
        // Where the guard does not hold, behind it all.
        self.scopes.push(Scope { is_function: true, variables, ..Scope::default() });
        if let Some((register, negated)) = guard {
            self.branch(Some((register, !negated)), END, at);
        }
        let back = std::mem::replace(self.text, function.body.clone());
        self.read(depth + 1)?;
        *self.text = back;
        self.leave()
    }

    /// `(param0, param1)`: where these variables lie.
    fn arguments(&mut self) -> Result<Vec<u32>, Refused> {
        let mut places = Vec::new();
        self.text.expect('(')?;
        while !self.text.takes(')') {
            let before = self.text.clone();
            let name = self.text.word("a parameter of a call")?;
            places.push(self.variable(name).ok_or_else(|| {
                before.refuse(format!(
                    "`{name}` is no variable of `.param` space, which the machine wants here"
                ))
            })?);
            self.text.takes(',');
        }
        Ok(places)
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

    /// `brx.idx`, as one statement for each target: the index, the target's number, how many there are, and
    /// the target.
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

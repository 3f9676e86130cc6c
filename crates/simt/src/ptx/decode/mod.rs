//! What each opcode means. PTX ISA, "Instructions"; an opcode or operand that is not known is refused by
//! name.

mod arithmetic;
mod convert;
mod form;
mod machine;
mod mbarrier;
mod memory;
mod tensor;

use std::sync::Arc;

use super::{
    code::{Code, Instruction, NONE, Operation as Op, Source},
    lane::CONSTANTS,
    parsed::{Operand, ParsedEntry, Statement},
    target::Target,
    text::Refused,
    types::{Kind, Type},
};
use crate::memory::SHARED_BASE;
use form::{Form, Slot};

/// Decodes an entry.
pub(crate) fn decode(entry: &ParsedEntry<'_>, target: Target, constants: Arc<[u8]>) -> Result<Code, Refused> {
    let mut code = Code {
        instructions: Vec::with_capacity(entry.statements.len() + 1),
        results: Vec::new(),
        sources: Vec::new(),
        // The last one is the carry flag.
        registers: entry.register_count as usize + 1,
        local: entry.local,
        constants,
    };
    for statement in &entry.statements {
        let refuse = |reason: String| statement.at.refuse(format!("`{}`: {reason}", statement.opcode));
        let form = known(statement)
            .ok_or_else(|| refuse("the machine does not know this instruction".to_owned()))?;
        if !target.has(form.op) {
            return Err(refuse("the target of the module does not have it".to_owned()));
        }
        append(&mut code, statement, &form).map_err(refuse)?;
    }
    // Who falls off the end returns. PTX ISA does not say; ptxas does so.
    code.instructions.push(Instruction {
        op: Op::Return,
        guard: NONE,
        negated: false,
        results: (0, 0),
        sources: (0, 0),
        line: entry.statements.last().map_or(0, |statement| statement.line),
    });
    Ok(code)
}

/// Adds an instruction.
fn append(code: &mut Code, statement: &Statement<'_>, form: &Form) -> Result<(), String> {
    let (results, sources) = (code.results.len(), code.sources.len());
    let mut op = form.op;
    if statement.operands.len() != form.operands.len() {
        return Err(format!("{} operands, not {}", statement.operands.len(), form.operands.len()));
    }
    for (operand, &slot) in statement.operands.iter().zip(&form.operands) {
        match (slot, operand) {
            (Slot::Out, operand) => code.results.push(result(operand)?),
            (Slot::Outs, Operand::List(list)) => {
                for one in list {
                    code.results.push(result(one)?);
                }
            }
            (Slot::Outs, operand) => code.results.push(result(operand)?),
            (Slot::Pair, Operand::Pair(pair)) => {
                for one in &**pair {
                    code.results.push(result(one)?);
                }
            }
            (Slot::Pair, operand) => code.results.extend([result(operand)?, NONE]),
            (Slot::Value(bits), operand) => code.sources.push(value(operand, bits)?),
            (Slot::Values(bits), Operand::List(list)) => {
                for one in list {
                    code.sources.push(value(one, bits)?);
                }
            }
            (Slot::Values(bits), operand) => code.sources.push(value(operand, bits)?),
            (Slot::Immediate, Operand::Immediate(value)) => code.sources.push(Source::Constant(*value)),
            (Slot::Must(wanted), Operand::Immediate(value)) if *value == wanted => {}
            (Slot::Must(wanted), _) => return Err(format!("an operand other than {wanted}")),
            (Slot::Address, Operand::Address(base, offset, coordinates)) if coordinates.is_empty() => {
                address(code, base, *offset)?;
            }
            (Slot::Box(count), Operand::Address(base, offset, coordinates))
                if coordinates.len() == count as usize =>
            {
                address(code, base, *offset)?;
                for coordinate in coordinates {
                    code.sources.push(value(coordinate, 32)?);
                }
            }
            (Slot::Label, Operand::Target(target)) => {
                op = if matches!(op, Op::BranchCase(_)) {
                    Op::BranchCase(*target)
                } else {
                    Op::Branch(*target)
                };
            }
            (Slot::Predicate, Operand::Negated(register)) => {
                code.sources.extend([Source::Register(*register), Source::Constant(1)]);
            }
            (Slot::Predicate, operand) => {
                let predicate = value(operand, 1)?;
                code.sources.extend([predicate, Source::Constant(0)]);
            }
            (_, operand) => return Err(format!("the operand {operand:?}")),
        }
    }
    if let Op::Carry { reads, writes, .. } = op {
        let flag = code.registers as u16 - 1;
        code.results.push(if writes { flag } else { NONE });
        code.sources.extend(reads.then_some(Source::Register(flag)));
    }
    let (guard, negated) = statement.guard.unwrap_or((NONE, false));
    let count = |all: usize, first: usize| (first as u32, (all - first) as u16);
    code.instructions.push(Instruction {
        op,
        guard,
        negated,
        results: count(code.results.len(), results),
        sources: count(code.sources.len(), sources),
        line: statement.line,
    });
    check(op, code.results.len() - results, code.sources.len() - sources)
}

/// How many registers a vector has is up to the text; not every number has an instruction.
fn check(op: Op, results: usize, sources: usize) -> Result<(), String> {
    // PTX ISA, "ld": up to 16 bytes at once, in one, two or four words.
    let is_vector = |count: usize, bits: u32| matches!(count, 1 | 2 | 4 | 8) && count as u32 * bits <= 128;
    let fits = match op {
        Op::Pack(bits) => matches!(sources, 2 | 4) && sources as u32 * bits <= 64,
        Op::Unpack(bits) => matches!(results, 2 | 4) && results as u32 * bits <= 64,
        Op::LoadParameter(bits) | Op::Load(_, bits) | Op::LoadNonCoherent(bits) => is_vector(results, bits),
        Op::Store(_, bits) => is_vector(sources - 2, bits),
        Op::Atomic(_, _, ty, _) if results == 0 => is_vector(sources - 2, ty.bits),
        Op::Atomic(_, _, ty, _) if results > 1 => results == sources - 2 && is_vector(results, ty.bits),
        Op::Ldmatrix { .. } => matches!(results, 1 | 2 | 4),
        Op::Stmatrix { .. } => matches!(sources - 2, 1 | 2 | 4),
        Op::Mma(None) => results == 2 && sources == 1 + 1 + 2,
        // Four and two registers of a and b, or half of them.
        Op::Mma(Some(types)) => types.columns(results) == 8 && matches!(sources - results, 6 | 3),
        Op::Wgmma(product) => results <= 128 && sources == if product.in_registers { 7 } else { 4 },
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("vectors of {results} and {sources} registers")) }
}

fn address(code: &mut Code, base: &Operand<'_>, offset: i64) -> Result<(), String> {
    code.sources.push(value(base, 64)?);
    code.sources.push(Source::Constant(offset.cast_unsigned()));
    Ok(())
}

fn result(operand: &Operand<'_>) -> Result<u16, String> {
    match operand {
        Operand::Register(register) => Ok(*register),
        Operand::Sink => Ok(NONE),
        other => Err(format!("{other:?} as a result")),
    }
}

fn value(operand: &Operand<'_>, bits: u32) -> Result<Source, String> {
    let cut = Type::new(bits, Kind::Bits);
    Ok(match operand {
        Operand::Register(register) => Source::Register(*register),
        Operand::Immediate(value) => Source::Constant(cut.cut(*value)),
        Operand::Special(special) => Source::Special(*special),
        Operand::Parameter(at) => Source::Constant(u64::from(*at)),
        Operand::Local(at) => Source::Constant(u64::from(*at)),
        Operand::Constant(at) => Source::Constant(CONSTANTS + u64::from(*at)),
        Operand::Shared(at) => Source::Constant(u64::from(SHARED_BASE + at)),
        Operand::Name(name) => return Err(format!("the name `{name}` is not known")),
        other => return Err(format!("the operand {other:?}")),
    })
}

/// The operation of a statement, and the form of its operands.
fn known(statement: &Statement<'_>) -> Option<Form> {
    let mut parts = statement.opcode.split('.');
    let name = parts.next()?;
    let parts: Vec<&str> = parts.collect();
    match name {
        "ld" | "st" | "atom" | "red" => memory::decode(name, &parts, statement),
        "mbarrier" => mbarrier::decode(&parts, statement),
        "cp" => tensor::copy(&parts, statement),
        "tensormap" => tensor::tensormap(&parts),
        "wgmma" => tensor::wgmma(&parts, statement),
        "cvt" => convert::decode(&parts),
        "mov" => arithmetic::mov(&parts, statement),
        _ => machine::decode(name, &parts, statement).or_else(|| arithmetic::decode(name, &parts, statement)),
    }
}

//! What each opcode means. PTX ISA 9.0, section 9.7; an opcode or operand that is not known is refused by name.

use super::{
    code::{Arithmetic, Code, Compare, Instruction, Kind, NONE, Operation as Op, Source, Type},
    lane::PARAMETERS,
    parsed::{Operand, ParsedEntry, Statement},
    target::Target,
    text::Refused,
};

/// The form of an instruction's operands.
struct Form {
    op: Op,
    /// The operands, in their order.
    operands: &'static [Slot],
}

/// What stands at one place among the operands.
#[derive(Clone, Copy)]
enum Slot {
    /// A register for a result, or `_`.
    Result,
    /// Several of them: between braces, or one without.
    Results,
    /// A value of so many bits.
    Value(u32),
    /// Several of them.
    Values(u32),
    /// An immediate, which is kept.
    Immediate,
    /// An immediate that must be this.
    Must(u64),
    /// All lanes of a warp, as a mask.
    AllLanes,
    /// `[base+offset]`
    Address,
    /// `[base+offset, {x, y}]`
    Box2d,
    /// `_`, or a register that must not be used: of an mbarrier's state.
    Sink,
    /// The label of a branch.
    Target,
}

use Slot::{
    Address, AllLanes, Box2d, Immediate, Must, Result as Out, Results, Sink, Target as Label, Value, Values,
};

/// Decodes an entry.
pub(crate) fn decode(entry: &ParsedEntry<'_>, target: Target) -> Result<Code, Refused> {
    let mut code = Code {
        instructions: Vec::with_capacity(entry.statements.len() + 1),
        results: Vec::new(),
        sources: Vec::new(),
        registers: entry.register_count as usize,
    };
    for statement in &entry.statements {
        let refuse = |reason: String| statement.at.refuse(format!("`{}`: {reason}", statement.opcode));
        let form = form(statement).map_err(refuse)?;
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
    for (operand, slot) in statement.operands.iter().zip(form.operands) {
        match (slot, operand) {
            (Out, Operand::Sink) | (Sink, Operand::Sink) => {
                if matches!(slot, Out) {
                    code.results.push(NONE);
                }
            }
            (Out | Results, Operand::Register(register)) => code.results.push(*register),
            (Results, Operand::List(list)) => {
                for one in list {
                    code.results.push(match one {
                        Operand::Register(register) => *register,
                        Operand::Sink => NONE,
                        other => return Err(format!("{other:?} as a result")),
                    });
                }
            }
            (Value(bits), operand) => code.sources.push(value(operand, *bits)?),
            (Values(bits), Operand::List(list)) => {
                for one in list {
                    code.sources.push(value(one, *bits)?);
                }
            }
            (Values(bits), operand) => code.sources.push(value(operand, *bits)?),
            (Immediate, Operand::Immediate(value)) => code.sources.push(Source::Constant(*value)),
            (Must(wanted), Operand::Immediate(value)) if value == wanted => {}
            (AllLanes, Operand::Immediate(mask)) if *mask as u32 == u32::MAX => {}
            (AllLanes, _) => return Err("a mask of lanes other than all".to_owned()),
            (Must(wanted), _) => return Err(format!("an operand other than {wanted}")),
            (Address, Operand::Address(base, offset, coordinates)) if coordinates.is_empty() => {
                address(code, base, *offset)?;
            }
            (Box2d, Operand::Address(base, offset, coordinates)) if coordinates.len() == 2 => {
                address(code, base, *offset)?;
                for coordinate in coordinates {
                    code.sources.push(value(coordinate, 32)?);
                }
            }
            (Label, Operand::Target(target)) => op = Op::Branch(*target),
            (_, operand) => return Err(format!("the operand {operand:?}")),
        }
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
    let fits = match op {
        Op::Pack(bits) => matches!(sources, 2 | 4) && sources as u32 * bits <= 64,
        Op::Unpack(bits) => matches!(results, 2 | 4) && results as u32 * bits <= 64,
        Op::LoadParameter(_) => matches!(results, 1 | 2 | 4),
        Op::LoadGlobal(bits) | Op::LoadShared(bits) => is_word(results, bits),
        Op::StoreGlobal(bits) | Op::StoreShared(bits) => is_word(sources - 2, bits),
        Op::Ldmatrix | Op::LdmatrixTrans => results == 4,
        Op::Stmatrix => sources == 2 + 4,
        Op::Mma => results == 4 && sources == 4 + 2 + 4,
        Op::Wgmma => results.is_multiple_of(4) && results <= 128,
        _ => true,
    };
    if fits { Ok(()) } else { Err(format!("vectors of {results} and {sources} registers")) }
}

/// What the machine loads and stores at once.
fn is_word(count: usize, bits: u32) -> bool {
    matches!((count, bits), (1, 16 | 32) | (2 | 4, 32))
}

fn address(code: &mut Code, base: &Operand<'_>, offset: i64) -> Result<(), String> {
    code.sources.push(value(base, 64)?);
    code.sources.push(Source::Constant(offset.cast_unsigned()));
    Ok(())
}

fn value(operand: &Operand<'_>, bits: u32) -> Result<Source, String> {
    let cut = Type { bits, kind: Kind::Bits };
    Ok(match operand {
        Operand::Register(register) => Source::Register(*register),
        Operand::Immediate(value) => Source::Constant(cut.cut(*value)),
        Operand::Special(special) => Source::Special(*special),
        Operand::Parameter(at) => Source::Constant(PARAMETERS + u64::from(*at)),
        Operand::Shared => Source::Constant(u64::from(crate::memory::SHARED_BASE)),
        Operand::Name(name) => return Err(format!("the name `{name}` is not known")),
        other => return Err(format!("the operand {other:?}")),
    })
}

/// The operation of a statement, and the form of its operands.
fn form(statement: &Statement<'_>) -> Result<Form, String> {
    if let Some(form) = machine(statement) {
        return Ok(form);
    }
    memory(statement.opcode)
        .or_else(|| arithmetic(statement))
        .ok_or_else(|| "the machine does not know this instruction".to_owned())
}

/// Instructions of the machine, by their full names.
fn machine(statement: &Statement<'_>) -> Option<Form> {
    let (op, operands): (Op, &'static [Slot]) = match statement.opcode {
        "bra" | "bra.uni" => (Op::Branch(0), &[Label]),
        "ret" | "exit" => (Op::Return, &[]),
        "trap" => (Op::Trap, &[]),
        "ld.acquire.gpu.global.u32" => (Op::LoadAcquire, &[Out, Address]),
        "st.relaxed.gpu.global.u32" => (Op::StoreRelaxed, &[Address, Value(32)]),
        "atom.relaxed.gpu.global.inc.u32" => (Op::AtomicInc, &[Out, Address, Value(32)]),
        "red.release.gpu.global.add.u32" => (Op::ReduceAddRelease, &[Address, Value(32)]),
        "bar.sync" | "barrier.sync" => match statement.operands[..] {
            [Operand::Immediate(0)] => (Op::BarSync, &[Must(0)]),
            _ => (Op::BarSyncNamed, &[Value(32), Value(32)]),
        },
        "bar.warp.sync" => (Op::BarWarpSync, &[AllLanes]),
        "cp.async.cg.shared.global" => (Op::CpAsync, &[Address, Address, Must(16), Value(32)]),
        "cp.async.commit_group" => (Op::CpAsyncCommitGroup, &[]),
        "cp.async.wait_group" => (Op::CpAsyncWaitGroup, &[Immediate]),
        "ldmatrix.sync.aligned.m8n8.x4.shared.b16" => (Op::Ldmatrix, &[Results, Address]),
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16" => (Op::LdmatrixTrans, &[Results, Address]),
        "stmatrix.sync.aligned.m8n8.x4.shared.b16" => (Op::Stmatrix, &[Address, Values(32)]),
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32" => {
            (Op::Mma, &[Results, Values(32), Values(32), Values(32)])
        }
        "shfl.sync.bfly.b32" => (Op::ShflBfly, &[Out, Value(32), Value(32), Must(31), AllLanes]),
        "barrier.cluster.arrive.release.aligned" | "barrier.cluster.arrive.aligned" => {
            (Op::ClusterArrive, &[])
        }
        "barrier.cluster.wait.acquire.aligned" | "barrier.cluster.wait.aligned" => (Op::ClusterWait, &[]),
        "mapa.shared::cluster.u32" => (Op::Mapa, &[Out, Value(32), Value(32)]),
        "mbarrier.init.shared::cta.b64" => (Op::MbarrierInit, &[Address, Value(32)]),
        "fence.mbarrier_init.release.cluster" => (Op::FenceMbarrierInit, &[]),
        "mbarrier.arrive.release.cta.shared::cta.b64" | "mbarrier.arrive.shared::cta.b64" => {
            (Op::MbarrierArrive, &[Sink, Address])
        }
        "mbarrier.arrive.shared::cluster.b64" => match statement.operands.len() {
            1 => (Op::MbarrierArriveCluster, &[Address]),
            _ => (Op::MbarrierArriveCluster, &[Sink, Address]),
        },
        "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64"
        | "mbarrier.arrive.expect_tx.shared::cta.b64" => {
            (Op::MbarrierArriveExpectTx, &[Sink, Address, Value(32)])
        }
        "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64"
        | "mbarrier.try_wait.parity.shared::cta.b64" => (Op::MbarrierTryWait, &[Out, Address, Value(32)]),
        "fence.proxy.async.shared::cta" => (Op::FenceProxyShared, &[]),
        "fence.proxy.async.global" => (Op::FenceProxyGlobal, &[]),
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes" => {
            (Op::TensorLoad, &[Address, Box2d, Address])
        }
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster" => {
            (Op::TensorLoadMulticast, &[Address, Box2d, Address, Value(16)])
        }
        "cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group" => (Op::TensorStore, &[Box2d, Address]),
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes" => {
            (Op::BulkToCluster, &[Address, Address, Value(32), Address])
        }
        "cp.async.bulk.commit_group" => (Op::BulkCommitGroup, &[]),
        "cp.async.bulk.wait_group" => (Op::BulkWaitGroup, &[Immediate]),
        "cp.async.bulk.wait_group.read" => (Op::BulkWaitGroupRead, &[Immediate]),
        "prefetch.tensormap" => (Op::PrefetchTensormap, &[Address]),
        "wgmma.fence.sync.aligned" => (Op::WgmmaFence, &[]),
        "wgmma.commit_group.sync.aligned" => (Op::WgmmaCommitGroup, &[]),
        "wgmma.wait_group.sync.aligned" => (Op::WgmmaWaitGroup, &[Immediate]),
        "setmaxnreg.dec.sync.aligned.u32" => (Op::SetmaxnregDec, &[Immediate]),
        "setmaxnreg.inc.sync.aligned.u32" => (Op::SetmaxnregInc, &[Immediate]),
        "griddepcontrol.wait" => (Op::DependentsWait, &[]),
        "griddepcontrol.launch_dependents" => (Op::DependentsLaunch, &[]),
        opcode => {
            // wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16
            let n =
                opcode.strip_prefix("wgmma.mma_async.sync.aligned.m64n")?.strip_suffix("k16.f32.f16.f16")?;
            let n: usize = n.parse().ok().filter(|n| n % 8 == 0)?;
            let Some(Operand::List(registers)) = statement.operands.first() else { return None };
            if 2 * registers.len() != n {
                return None;
            }
            // scale-d, the signs of A and B, and K-major both.
            let operands: &[Slot] =
                &[Results, Value(64), Value(64), Must(1), Must(1), Must(1), Must(0), Must(0)];
            (Op::Wgmma, operands)
        }
    };
    Some(Form { op, operands })
}

/// Weak loads and stores: `ld.shared::cta.v2.u32` and the like.
fn memory(opcode: &str) -> Option<Form> {
    let mut parts = opcode.split('.');
    let is_load = match parts.next()? {
        "ld" => true,
        "st" => false,
        _ => return None,
    };
    let space = parts.next()?;
    let mut part = parts.next()?;
    if matches!(part, "v2" | "v4") {
        part = parts.next()?;
    }
    let width = Type::named(part)?;
    if parts.next().is_some() || width.bits < 8 {
        return None;
    }
    let bits = width.bits;
    let op = match (space, is_load) {
        ("param", true) => Op::LoadParameter(bits),
        ("global", true) => Op::LoadGlobal(bits),
        ("global", false) => Op::StoreGlobal(bits),
        ("shared" | "shared::cta", true) => Op::LoadShared(bits),
        ("shared" | "shared::cta", false) => Op::StoreShared(bits),
        _ => return None,
    };
    let operands: &[Slot] = match (is_load, bits) {
        (true, _) => &[Results, Address],
        (false, 8) => &[Address, Values(8)],
        (false, 16) => &[Address, Values(16)],
        (false, 32) => &[Address, Values(32)],
        (false, _) => &[Address, Values(64)],
    };
    Some(Form { op, operands })
}

/// Everything that only touches registers.
fn arithmetic(statement: &Statement<'_>) -> Option<Form> {
    use Arithmetic as A;
    let (name, rest) = statement.opcode.split_once('.')?;
    let parts: Vec<&str> = rest.split('.').collect();
    let (&last, modifiers) = parts.split_last()?;
    if name == "cvt" {
        return convert(&parts);
    }
    if name == "cvta" {
        // Parameters, global and shared memory have their addresses in one space here.
        let is_known =
            matches!(modifiers, ["param" | "global" | "shared"] | ["to", "param" | "global" | "shared"]);
        let op = Op::Arithmetic(A::Mov, Type::named(last)?);
        return if is_known { Some(Form { op, operands: &[Out, Value(64)] }) } else { None };
    }
    let ty = Type::named(last)?;
    let is_float = ty.kind == Kind::Float;
    if name == "mov" {
        return match (&statement.operands[..], modifiers.is_empty()) {
            ([_, Operand::List(words)], true) => Some(Form {
                op: Op::Pack(ty.bits / words.len() as u32),
                operands: of_words(ty.bits, words.len())?,
            }),
            ([Operand::List(words), _], true) => Some(Form {
                op: Op::Unpack(ty.bits / words.len() as u32),
                operands: if ty.bits == 64 { &[Results, Value(64)] } else { &[Results, Value(32)] },
            }),
            (_, true) => form_of(A::Mov, ty, 1),
            _ => None,
        };
    }
    // Rounding to the nearest is what f32 does here; there are no subnormal results to flush in ours that would show, so
    // `.ftz` is known for the approximations alone.
    let (op, sources) = match (name, modifiers) {
        ("add", [] | ["rn"]) if is_float || modifiers.is_empty() => (A::Add, 2),
        ("sub", [] | ["rn"]) if is_float || modifiers.is_empty() => (A::Sub, 2),
        ("mul", [] | ["rn"]) if is_float => (A::Mul, 2),
        ("mul", ["lo"]) => (A::Mul, 2),
        ("mul", ["hi"]) if !is_float => (A::MulHi, 2),
        ("mul", ["wide"]) if ty.bits <= 32 && !is_float => (A::MulWide, 2),
        ("mad", ["lo"]) if !is_float => (A::Mad, 3),
        ("mad", ["wide"]) if ty.bits <= 32 && !is_float => (A::MadWide, 3),
        ("fma", ["rn"]) if is_float => (A::Fma, 3),
        ("div", []) if !is_float => (A::Div, 2),
        ("rem", []) if !is_float => (A::Rem, 2),
        ("and", []) => (A::And, 2),
        ("or", []) => (A::Or, 2),
        ("xor", []) => (A::Xor, 2),
        ("not", []) => (A::Not, 1),
        ("neg", []) => (A::Neg, 1),
        ("abs", []) => (A::Abs, 1),
        ("shl", []) => (A::Shl, 2),
        ("shr", []) => (A::Shr, 2),
        ("bfe", []) if !is_float => (A::Bfe, 3),
        ("min", []) => (A::Min, 2),
        ("max", []) => (A::Max, 2),
        ("popc", []) => (A::Popc, 1),
        ("selp", []) => (A::Selp, 3),
        ("setp", [compare]) => (A::Setp(comparison(compare)?), 2),
        ("ex2", ["approx"] | ["approx", "ftz"]) if is_float => (A::Ex2, 1),
        ("rcp", ["approx", "ftz"]) if is_float => (A::Rcp, 1),
        ("rsqrt", ["approx", "ftz"]) if is_float => (A::Rsqrt, 1),
        _ => return None,
    };
    // Of floats f32 alone, and no bits of them.
    let of_bits = matches!(op, A::And | A::Or | A::Xor | A::Not | A::Shl | A::Shr | A::Bfe | A::Popc);
    if is_float && (ty.bits != 32 || of_bits) || ty.bits == 8 {
        return None;
    }
    form_of(op, ty, sources)
}

fn form_of(op: Arithmetic, ty: Type, sources: usize) -> Option<Form> {
    use Arithmetic as A;
    let operands: &[Slot] = match (op, sources, ty.bits) {
        (A::Shl | A::Shr, _, 16) => &[Out, Value(16), Value(32)],
        (A::Shl | A::Shr, _, 32) => &[Out, Value(32), Value(32)],
        (A::Shl | A::Shr, _, 64) => &[Out, Value(64), Value(32)],
        (A::Bfe, _, 32) => &[Out, Value(32), Value(32), Value(32)],
        (A::Bfe, _, 64) => &[Out, Value(64), Value(32), Value(32)],
        (A::Selp, _, 16) => &[Out, Value(16), Value(16), Value(1)],
        (A::Selp, _, 32) => &[Out, Value(32), Value(32), Value(1)],
        (A::Selp, _, 64) => &[Out, Value(64), Value(64), Value(1)],
        (A::MadWide, _, 16) => &[Out, Value(16), Value(16), Value(32)],
        (A::MadWide, _, 32) => &[Out, Value(32), Value(32), Value(64)],
        (A::Shl | A::Shr | A::Bfe | A::Selp | A::MadWide, ..) => return None,
        (_, 1, 1) => &[Out, Value(1)],
        (_, 1, 16) => &[Out, Value(16)],
        (_, 1, 32) => &[Out, Value(32)],
        (_, 1, 64) => &[Out, Value(64)],
        (_, 2, 1) => &[Out, Value(1), Value(1)],
        (_, 2, 16) => &[Out, Value(16), Value(16)],
        (_, 2, 32) => &[Out, Value(32), Value(32)],
        (_, 2, 64) => &[Out, Value(64), Value(64)],
        (_, 3, 16) => &[Out, Value(16), Value(16), Value(16)],
        (_, 3, 32) => &[Out, Value(32), Value(32), Value(32)],
        (_, 3, 64) => &[Out, Value(64), Value(64), Value(64)],
        _ => return None,
    };
    Some(Form { op: Op::Arithmetic(op, ty), operands })
}

/// `mov.b32 %r, {%rs, %rs}`: operands of 32 or 64 bits from two words or four.
fn of_words(bits: u32, words: usize) -> Option<&'static [Slot]> {
    Some(match bits / words as u32 {
        8 => &[Out, Values(8)],
        16 => &[Out, Values(16)],
        32 => &[Out, Values(32)],
        _ => return None,
    })
}

fn comparison(name: &str) -> Option<Compare> {
    Some(match name {
        "eq" => Compare::Eq,
        "ne" => Compare::Ne,
        "lt" | "lo" => Compare::Lt,
        "le" | "ls" => Compare::Le,
        "gt" | "hi" => Compare::Gt,
        "ge" | "hs" => Compare::Ge,
        _ => return None,
    })
}

/// `cvt`, by what follows it.
fn convert(parts: &[&str]) -> Option<Form> {
    if parts == ["rn", "f16x2", "f32"] {
        return Some(Form { op: Op::PackF16x2, operands: &[Out, Value(32), Value(32)] });
    }
    let (is_rounded, to, from) = match parts {
        [to, from] => (false, Type::named(to)?, Type::named(from)?),
        ["rn", to, from] => (true, Type::named(to)?, Type::named(from)?),
        _ => return None,
    };
    // What rounds has to say how; between integers, and to a wider float, nothing does.
    let is_known = match (to.kind, from.kind) {
        (Kind::Float, Kind::Float) => is_rounded == (to.bits < from.bits),
        (Kind::Float, _) => is_rounded && to.bits == 32,
        (_, Kind::Float) => false,
        _ => !is_rounded,
    };
    let operands: &[Slot] = match from.bits {
        8 => &[Out, Value(8)],
        16 => &[Out, Value(16)],
        32 => &[Out, Value(32)],
        64 => &[Out, Value(64)],
        _ => return None,
    };
    (is_known && to.bits > 1).then_some(Form { op: Op::Convert(to, from), operands })
}

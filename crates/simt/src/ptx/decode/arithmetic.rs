//! Everything that only touches registers. PTX ISA, "Integer Arithmetic Instructions" to "Logic and Shift
//! Instructions", and `mov`.

use super::{
    super::{
        code::{Arithmetic as A, Combine, Compare, Operation as Op},
        parsed::{Operand, Statement},
        types::{Kind, Mode, Rounding, Type},
    },
    convert,
    form::{
        Form,
        Slot::{Immediate, Out, Outs, Pair, Predicate, Value, Values},
        form,
    },
};

/// `mov`, also of several words to one and back.
pub(super) fn mov(parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let [ty] = parts else { return None };
    let ty = Type::named(ty)?;
    match &statement.operands[..] {
        [_, Operand::List(words)] => {
            let bits = ty.bits / words.len() as u32;
            matches!(bits, 8 | 16 | 32).then(|| form(Op::Pack(bits), [Out, Values(bits)]))
        }
        [Operand::List(words), _] => {
            Some(form(Op::Unpack(ty.bits / words.len() as u32), [Outs, Value(ty.bits)]))
        }
        _ => Some(of(A::Mov, ty, Rounding::default(), 1)),
    }
}

/// What an operation of the same type everywhere is, with so many sources.
fn of(op: A, ty: Type, rounding: Rounding, sources: usize) -> Form {
    let mut slots = vec![Out];
    slots.extend(std::iter::repeat_n(Value(ty.bits), sources));
    match op {
        A::Shl | A::Shr => slots[2] = Value(32),
        A::Bfe => slots[2..].fill(Value(32)),
        A::Selp => slots[3] = Value(1),
        A::MadWide => slots[3] = Value(2 * ty.bits),
        _ => {}
    }
    form(Op::Arithmetic(op, ty, rounding), slots)
}

pub(super) fn decode(name: &str, parts: &[&str], statement: &Statement<'_>) -> Option<Form> {
    if name == "cvta" {
        return convert::address(parts);
    }
    let (&last, modifiers) = parts.split_last()?;
    let ty = Type::named(last).filter(|ty| ty.bits != 8)?;
    match name {
        "setp" => return setp(ty, modifiers, statement),
        // `slct.f32.s32`: the last type is that of the third source.
        "slct" => return slct(modifiers, ty),
        "lop3" => return lop3(ty, modifiers, statement),
        "shf" => return shf(ty, modifiers),
        "set" => return set(ty, modifiers),
        "dp4a" => return dp4a(ty, modifiers),
        _ if matches!(ty.kind, Kind::Tensor | Kind::Eights(_)) => return None,
        _ => {}
    }
    if ty.is_float() { floats(name, ty, modifiers) } else { integers(name, ty, modifiers) }
}

fn floats(name: &str, ty: Type, modifiers: &[&str]) -> Option<Form> {
    let (mut approx, mut full, mut mode) = (false, false, None);
    let mut rounding = Rounding::default();
    for &modifier in modifiers {
        match modifier {
            "ftz" => rounding.ftz = true,
            "sat" => rounding.saturates = true,
            "relu" => rounding.relu = true,
            "NaN" => rounding.nan = true,
            "xorsign" => rounding.xorsign = true,
            "abs" if rounding.xorsign => {}
            "approx" => approx = true,
            "full" => full = true,
            _ => mode = Some(convert::named_mode(modifier)?),
        }
    }
    rounding.mode = mode.unwrap_or_default();
    let is_single = ty == Type::new(32, Kind::Float);
    let is_double = ty == Type::new(64, Kind::Float);
    let is_half = ty.bits == 16 || ty.is_packed();
    let (op, sources) = match (name, approx, full) {
        ("add", false, false) => (A::Add, 2),
        ("sub", false, false) => (A::Sub, 2),
        ("mul", false, false) => (A::Mul, 2),
        ("fma", false, false) => (A::Fma, 3),
        ("div", false, false) if ty.bits >= 32 && !ty.is_packed() => (A::Div, 2),
        ("sqrt", false, false) if ty.bits >= 32 && !ty.is_packed() => (A::Sqrt, 1),
        ("rcp", false, false) if ty.bits >= 32 && !ty.is_packed() => (A::Rcp, 1),
        ("div", true, false) if is_single => (A::DivApprox { full: false }, 2),
        ("div", false, true) if is_single => (A::DivApprox { full: true }, 2),
        ("neg", false, false) => (A::Neg, 1),
        ("abs", false, false) => (A::Abs, 1),
        ("min", false, false) => (A::Min, 2),
        ("max", false, false) => (A::Max, 2),
        ("copysign", false, false) if ty.bits >= 32 && !ty.is_packed() => (A::CopySign, 2),
        ("selp", false, false) if !ty.is_packed() => (A::Selp, 3),
        ("ex2", true, false) if is_single || is_half => (A::Ex2, 1),
        ("lg2", true, false) if is_single => (A::Lg2, 1),
        ("rcp", true, false) if is_single => (A::RcpApprox, 1),
        ("rsqrt", true, false) if is_single => (A::Rsqrt, 1),
        ("sqrt", true, false) if is_single => (A::SqrtApprox, 1),
        ("tanh", true, false) if is_single || is_half => (A::Tanh, 1),
        ("rcp", true, false) if is_double && rounding.ftz => (A::RcpApprox, 1),
        ("rsqrt", true, false) if is_double => (A::Rsqrt, 1),
        ("sin", true, false) if is_single => (A::Sin, 1),
        ("cos", true, false) if is_single => (A::Cos, 1),
        _ => return None,
    };
    // Which may be said of what.
    let rounds = matches!(op, A::Add | A::Sub | A::Mul | A::Fma | A::Div | A::Sqrt | A::Rcp);
    let must_round = matches!(op, A::Fma | A::Div | A::Sqrt | A::Rcp);
    let is_extreme = matches!(op, A::Min | A::Max);
    let is_known = match mode {
        Some(Mode::Nearest) => rounds,
        // Directions of f32 and f64 alone, of what has one step.
        Some(Mode::Zero | Mode::Down | Mode::Up) => {
            matches!(op, A::Add | A::Sub | A::Mul | A::Fma) && is_single
        }
        Some(_) => false,
        None => !must_round,
    } && (!rounding.ftz
        || ty.bits == 32
        || is_double && approx
        || ty.kind == Kind::Brain && op == A::Ex2)
        && (!rounding.saturates || rounds && ty.bits <= 32)
        && (!rounding.nan || is_extreme && !is_double)
        && (!rounding.xorsign || is_extreme && !is_double)
        && (!rounding.relu || op == A::Fma && ty.bits <= 32);
    is_known.then(|| of(op, ty, rounding, sources))
}

fn integers(name: &str, ty: Type, modifiers: &[&str]) -> Option<Form> {
    let is_bits = ty.kind == Kind::Bits;
    if let Some(form) = carry(name, ty, modifiers) {
        return Some(form);
    }
    let (op, sources) = match (name, modifiers) {
        ("add", []) | ("min" | "max", []) if ty.is_packed() => {
            let op = match name {
                "add" => A::Add,
                "min" => A::Min,
                _ => A::Max,
            };
            (op, 2)
        }
        _ if ty.is_packed() => return None,
        ("add", [] | ["sat"]) => (A::Add, 2),
        ("sub", [] | ["sat"]) => (A::Sub, 2),
        ("mul", ["lo"]) => (A::Mul, 2),
        ("mul", ["hi"]) => (A::MulHi, 2),
        ("mul", ["wide"]) if ty.bits <= 32 => (A::MulWide, 2),
        ("mul24", ["lo"]) if ty.bits == 32 => (A::Mul24, 2),
        ("mad", ["lo"]) => (A::Mad, 3),
        ("mad", ["hi"]) => (A::MadHi, 3),
        ("mad", ["wide"]) if ty.bits <= 32 => (A::MadWide, 3),
        ("mad24", ["lo"]) if ty.bits == 32 => (A::Mad24, 3),
        ("sad", []) => (A::Sad, 3),
        ("div", []) => (A::Div, 2),
        ("rem", []) => (A::Rem, 2),
        ("and", []) if is_bits => (A::And, 2),
        ("or", []) if is_bits => (A::Or, 2),
        ("xor", []) if is_bits => (A::Xor, 2),
        ("not", []) if is_bits => (A::Not, 1),
        ("neg", []) => (A::Neg, 1),
        ("abs", []) => (A::Abs, 1),
        ("shl", []) => (A::Shl, 2),
        ("shr", []) => (A::Shr, 2),
        ("bfe", []) if ty.bits >= 32 => (A::Bfe, 3),
        ("bfi", []) if is_bits && ty.bits >= 32 => {
            let slots = [Out, Value(ty.bits), Value(ty.bits), Value(32), Value(32)];
            return Some(form(Op::Insert(ty.bits), slots));
        }
        ("min", []) => (A::Min, 2),
        ("max", []) => (A::Max, 2),
        ("popc", []) if ty.bits >= 32 => (A::Popc, 1),
        ("clz", []) if ty.bits >= 32 => (A::Clz, 1),
        ("brev", []) if ty.bits >= 32 => (A::Brev, 1),
        ("bfind", []) if ty.bits >= 32 => (A::Bfind { is_shift: false }, 1),
        ("bfind", ["shiftamt"]) if ty.bits >= 32 => (A::Bfind { is_shift: true }, 1),
        ("prmt", []) if ty.bits == 32 => (A::Prmt, 3),
        ("selp", []) => (A::Selp, 3),
        _ => return None,
    };
    let saturates = modifiers == ["sat"];
    let is_logic = matches!(op, A::And | A::Or | A::Xor | A::Not | A::Mov);
    let is_known = (ty.bits > 1 || is_logic) && (!saturates || ty == Type::new(32, Kind::Signed));
    is_known.then(|| of(op, ty, Rounding { saturates, ..Rounding::default() }, sources))
}

/// `add.cc`, `addc`, `madc.hi.cc` and the like. PTX ISA, "Extended-Precision Integer Arithmetic
/// Instructions".
fn carry(name: &str, ty: Type, modifiers: &[&str]) -> Option<Form> {
    let (modifiers, writes) = match modifiers {
        [rest @ .., "cc"] => (rest, true),
        _ => (modifiers, false),
    };
    let (op, reads) = match (name, modifiers) {
        ("add", []) => (A::Add, false),
        ("addc", []) => (A::Add, true),
        ("sub", []) => (A::Sub, false),
        ("subc", []) => (A::Sub, true),
        ("mad", ["lo"]) => (A::Mul, false),
        ("madc", ["lo"]) => (A::Mul, true),
        ("mad", ["hi"]) => (A::MulHi, false),
        ("madc", ["hi"]) => (A::MulHi, true),
        _ => return None,
    };
    let mut slots = vec![Out];
    slots.extend(std::iter::repeat_n(Value(ty.bits), if name.starts_with('m') { 3 } else { 2 }));
    let is_known = (reads || writes) && ty.bits >= 32 && !ty.is_packed();
    is_known.then(|| form(Op::Carry { op, ty, reads, writes }, slots))
}

/// `set.lt.f16x2.f16x2 d, a, b`. PTX ISA, "set".
fn set(from: Type, modifiers: &[&str]) -> Option<Form> {
    let [compare, rest @ .., to] = modifiers else { return None };
    let to = Type::named(to).filter(|to| to.is_packed() == from.is_packed() && matches!(to.bits, 16 | 32))?;
    let is_known = rest.is_empty() && from.bits >= 16 && to.kind != Kind::Pair && to.kind != Kind::SignedPair;
    let op = Op::Set(comparison(compare, from)?, to, from);
    is_known.then(|| form(op, [Out, Value(from.bits), Value(from.bits)]))
}

fn dp4a(ty: Type, modifiers: &[&str]) -> Option<Form> {
    let [of_a] = modifiers else { return None };
    let signed = [Type::named(of_a)?, ty].map(|ty| ty.kind == Kind::Signed);
    let word = Type::new(32, Kind::Bits);
    (ty.bits == 32).then(|| of(A::Dp4a(signed), word, Rounding::default(), 3))
}

/// `setp.lt{.and}{.ftz}.type p{|q}, a, b{, c}`. PTX ISA, "setp".
fn setp(ty: Type, modifiers: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let (&name, rest) = modifiers.split_first()?;
    let (mut combine, mut rounding) = (Combine::Nothing, Rounding::default());
    for &part in rest {
        match part {
            "and" => combine = Combine::And,
            "or" => combine = Combine::Or,
            "xor" => combine = Combine::Xor,
            "ftz" if ty == Type::new(32, Kind::Float) => rounding.ftz = true,
            _ => return None,
        }
    }
    let compare = comparison(name, ty)?;
    if ty.bits == 1 || ty.is_packed() && !ty.is_float() {
        return None;
    }
    let is_plain = !ty.is_packed()
        && combine == Combine::Nothing
        && !matches!(statement.operands.first(), Some(Operand::Pair(_)));
    if is_plain {
        return Some(of(A::Setp(compare), ty, rounding, 2));
    }
    let mut slots = vec![Pair, Value(ty.bits), Value(ty.bits)];
    if combine != Combine::Nothing {
        slots.push(Predicate);
    }
    // A subnormal number is flushed by nobody else: those who need it say so.
    (!rounding.ftz).then(|| form(Op::SetpBoth(compare, ty, combine), slots))
}

fn slct(modifiers: &[&str], selector: Type) -> Option<Form> {
    let [ty] = modifiers else { return None };
    let ty = Type::named(ty).filter(|ty| ty.bits >= 16 && !ty.is_packed())?;
    let is_known = selector == Type::new(32, Kind::Signed);
    is_known.then(|| {
        form(
            Op::Arithmetic(A::Slct, ty, Rounding::default()),
            [Out, Value(ty.bits), Value(ty.bits), Value(32)],
        )
    })
}

fn lop3(ty: Type, modifiers: &[&str], statement: &Statement<'_>) -> Option<Form> {
    let Some(Operand::Immediate(table @ 0..=255)) = statement.operands.get(4) else { return None };
    let is_known = modifiers.is_empty() && ty == Type::new(32, Kind::Bits);
    is_known.then(|| {
        form(
            Op::Arithmetic(A::Lop3(*table as u8), ty, Rounding::default()),
            [Out, Value(32), Value(32), Value(32), Immediate],
        )
    })
}

fn shf(ty: Type, modifiers: &[&str]) -> Option<Form> {
    let (left, wraps) = match modifiers {
        ["l", "wrap"] => (true, true),
        ["l", "clamp"] => (true, false),
        ["r", "wrap"] => (false, true),
        ["r", "clamp"] => (false, false),
        _ => return None,
    };
    (ty == Type::new(32, Kind::Bits)).then(|| of(A::Shf { left, wraps }, ty, Rounding::default(), 3))
}

fn comparison(name: &str, ty: Type) -> Option<Compare> {
    Some(match name {
        "eq" => Compare::Eq,
        "ne" => Compare::Ne,
        "lt" | "lo" => Compare::Lt,
        "le" | "ls" => Compare::Le,
        "gt" | "hi" => Compare::Gt,
        "ge" | "hs" => Compare::Ge,
        _ if !ty.is_float() => return None,
        "equ" => Compare::Equ,
        "neu" => Compare::Neu,
        "ltu" => Compare::Ltu,
        "leu" => Compare::Leu,
        "gtu" => Compare::Gtu,
        "geu" => Compare::Geu,
        "num" => Compare::Num,
        "nan" => Compare::Nan,
        _ => return None,
    })
}

//! What arithmetic instructions compute on integers, and which instructions they are. PTX ISA, "Integer
//! Arithmetic Instructions" to "Logic and Shift Instructions".

use super::{
    code::{Arithmetic as A, Combine, Compare},
    comparison::{chosen, holds},
    floats,
    types::{Kind, Rounding, Type},
};

/// The result of an operation on values of a type, each cut to its bits.
#[inline]
pub(super) fn compute(op: A, ty: Type, rounding: Rounding, sources: [u64; 3]) -> u64 {
    match ty.kind {
        Kind::Pair | Kind::SignedPair => {
            of_both(ty, sources, |half, sources| compute(op, half, rounding, sources))
        }
        Kind::Bits | Kind::Signed => ty_of_result(op, ty).cut(of_integers(op, ty, rounding, sources)),
        _ => floats::compute(op, ty, rounding, sources),
    }
}

/// The type of the result.
fn ty_of_result(op: A, ty: Type) -> Type {
    match op {
        A::MulWide | A::MadWide => Type { bits: 2 * ty.bits, ..ty },
        A::Setp(_) => Type::new(1, Kind::Bits),
        A::Popc | A::Clz | A::Bfind { .. } => Type::new(32, Kind::Bits),
        _ => ty,
    }
}

fn of_integers(op: A, ty: Type, rounding: Rounding, [a, b, c]: [u64; 3]) -> u64 {
    let is_signed = ty.kind == Kind::Signed;
    // To 128 bits, so that no product or quotient of 64 overflows.
    let wide = |value: u64| if is_signed { i128::from(ty.signed(value)) } else { i128::from(value) };
    let low = |value: i128| value as u64;
    let low24 = |value: u64| {
        let ty = Type { bits: 24, ..ty };
        if is_signed { ty.signed(value).cast_unsigned() } else { ty.cut(value) }
    };
    match op {
        A::Mov => a,
        A::Add if rounding.saturates => saturated(wide(a) + wide(b)),
        A::Sub if rounding.saturates => saturated(wide(a) - wide(b)),
        A::Add => a.wrapping_add(b),
        A::Sub => a.wrapping_sub(b),
        A::Mul => a.wrapping_mul(b),
        A::Mad => a.wrapping_mul(b).wrapping_add(c),
        A::MulWide => low(wide(a).wrapping_mul(wide(b))),
        A::MadWide => low(wide(a).wrapping_mul(wide(b))).wrapping_add(c),
        A::MulHi => low(wide(a).wrapping_mul(wide(b)) >> ty.bits),
        A::MadHi => low(wide(a).wrapping_mul(wide(b)) >> ty.bits).wrapping_add(c),
        A::Mul24 => low24(a).wrapping_mul(low24(b)),
        A::Mad24 => low24(a).wrapping_mul(low24(b)).wrapping_add(c),
        A::Sad => low((wide(a) - wide(b)).abs()).wrapping_add(c),
        // The manual leaves the result open. Foreign code divides by zero and does not use it.
        A::Div if b == 0 => u64::MAX,
        A::Rem if b == 0 => a,
        A::Div => low(wide(a) / wide(b)),
        A::Rem => low(wide(a) % wide(b)),
        A::And => a & b,
        A::Or => a | b,
        A::Xor => a ^ b,
        A::Not => !a,
        A::Neg => a.wrapping_neg(),
        A::Abs => low(wide(a).abs()),
        // Amounts beyond the width count as the width.
        A::Shl => a.checked_shl(b as u32).unwrap_or(0),
        A::Shr if is_signed => (ty.signed(a) >> b.min(63)).cast_unsigned(),
        A::Shr => a.checked_shr(b as u32).unwrap_or(0),
        A::Shf { left, wraps } => {
            let amount = if wraps { c & 31 } else { c.min(32) };
            let both = b << 32 | a;
            if left { both << amount >> 32 } else { both >> amount }
        }
        A::Bfe => field(ty, a, b as u32 & 0xff, c as u32 & 0xff),
        A::Min => low(wide(a).min(wide(b))),
        A::Max => low(wide(a).max(wide(b))),
        A::Popc => u64::from(a.count_ones()),
        A::Clz => u64::from(a.leading_zeros() - (64 - ty.bits)),
        A::Brev => a.reverse_bits() >> (64 - ty.bits),
        A::Bfind { is_shift } => {
            let value = if is_signed && ty.signed(a) < 0 { ty.cut(!a) } else { a };
            let place = value.checked_ilog2().map(|place| if is_shift { ty.bits - 1 - place } else { place });
            u64::from(place.unwrap_or(u32::MAX))
        }
        A::Dp4a(signed) => {
            let byte = |value: u64, is_signed: bool, at: u32| {
                let byte = (value >> (8 * at)) as u8;
                if is_signed { i64::from(byte.cast_signed()) } else { i64::from(byte) }
            };
            let product = |at: u32| byte(a, signed[0], at) * byte(b, signed[1], at);
            c.wrapping_add_signed((0..4).map(product).sum())
        }
        A::Prmt => permuted(b << 32 | a, c),
        A::Lop3(table) => looked_up(table, [a, b, c]),
        A::Selp => chosen(c & 1 == 1, a, b),
        A::Slct => chosen((c as u32).cast_signed() >= 0, a, b),
        A::Setp(compare) => u64::from(holds(compare, Some(wide(a).cmp(&wide(b))))),
        _ => unreachable!("no such instruction is decoded for integers"),
    }
}

/// An operation on both halves, which need not be of the same registers.
fn of_both(ty: Type, sources: [u64; 3], op: impl Fn(Type, [u64; 3]) -> u64) -> u64 {
    let half = ty.half().expect("the type is one of two values");
    let of = |shift: u32| op(half, sources.map(|value| value >> shift & 0xffff));
    of(16) << 16 | of(0)
}

/// A sum or difference with the carry, or borrow, that came before; and the one that it leaves. PTX ISA,
/// "Extended-Precision Integer Arithmetic Instructions".
pub(super) fn carried(op: A, ty: Type, [a, b, c]: [u64; 3], carry: bool) -> [u64; 2] {
    let carry = i128::from(carry);
    let wide = |value: u64| i128::from(ty.cut(value));
    let sum = match op {
        A::Add => wide(a) + wide(b) + carry,
        A::Sub => wide(a) - wide(b) - carry,
        product => wide(compute(product, ty, Rounding::default(), [a, b, 0])) + wide(c) + carry,
    };
    [ty.cut(sum as u64), u64::from(sum < 0 || sum >> ty.bits != 0)]
}

/// `set`: whether a comparison holds, of both halves where the types have two. PTX ISA, "set".
pub(super) fn set(compare: Compare, to: Type, from: Type, [a, b]: [u64; 2]) -> u64 {
    let truth = |ty: Type| match (ty.kind, ty.bits) {
        (Kind::Float, 32) => u64::from(1f32.to_bits()),
        (Kind::Float, _) => 0x3c00,
        (Kind::Brain, _) => 0x3f80,
        _ => ty.cut(u64::MAX),
    };
    let of = |to: Type, from: Type, [a, b]: [u64; 2]| {
        compute(A::Setp(compare), from, Rounding::default(), [a, b, 0]) * truth(to)
    };
    match (to.half(), from.half()) {
        (Some(to), Some(_)) => of_both(from, [a, b, 0], |from, [a, b, _]| of(to, from, [a, b])),
        _ => of(to, from, [a, b]),
    }
}

/// To the range of s32.
fn saturated(value: i128) -> u64 {
    value.clamp(i128::from(i32::MIN), i128::from(i32::MAX)) as u64
}

/// `bfe`: `length` bits from `start` on, sign-extended for a signed type. PTX ISA, "bfe".
fn field(ty: Type, value: u64, start: u32, length: u32) -> u64 {
    let is_signed = ty.kind == Kind::Signed;
    let last = (start + length).saturating_sub(1).min(ty.bits - 1);
    let sign = if is_signed && length > 0 { value >> last & 1 } else { 0 };
    let kept = length.min(ty.bits.saturating_sub(start));
    let shifted = value.checked_shr(start).unwrap_or(0);
    let mask = if kept >= 64 { u64::MAX } else { (1 << kept) - 1 };
    let fill = if sign == 1 { !mask } else { 0 };
    shifted & mask | fill
}

/// `bfi`: the second value with the lower `length` bits of the first one from `start` on. PTX ISA, "bfi".
pub(super) fn insert(bits: u32, [field, value, start, length]: [u64; 4]) -> u64 {
    let (start, length) = (start as u32 & 0xff, length as u32 & 0xff);
    let mask = if length >= 64 { u64::MAX } else { (1 << length) - 1 };
    let (mask, field) =
        (mask.checked_shl(start).unwrap_or(0), (field & mask).checked_shl(start).unwrap_or(0));
    Type::new(bits, Kind::Bits).cut(value & !mask | field)
}

/// `prmt` without a mode: of eight bytes those that four numbers of four bits name, or their signs. PTX ISA,
/// "prmt".
fn permuted(bytes: u64, selector: u64) -> u64 {
    (0..4).fold(0, |result, to| {
        let number = selector >> (4 * to) & 0xf;
        let byte = bytes >> (8 * (number & 7)) & 0xff;
        let byte = if number & 8 == 0 { byte } else { 0xff * (byte >> 7) };
        result | byte << (8 * to)
    })
}

/// `lop3`: bit by bit the entry of the table at 4 a + 2 b + c. PTX ISA, "lop3".
fn looked_up(table: u8, [a, b, c]: [u64; 3]) -> u64 {
    (0..8).filter(|entry| table >> entry & 1 == 1).fold(0, |result, entry| {
        let matches = |value: u64, bit: u32| if entry >> bit & 1 == 1 { value } else { !value };
        result | matches(a, 2) & matches(b, 1) & matches(c, 0)
    })
}

/// `setp` with two results or a third source: whether the comparison holds, and whether it does not, each
/// combined.
pub(super) fn compare_both(
    compare: Compare,
    ty: Type,
    combine: Combine,
    [a, b]: [u64; 2],
    with: bool,
) -> [u64; 2] {
    let holds = |ty: Type, a: u64, b: u64| compute(A::Setp(compare), ty, Rounding::default(), [a, b, 0]) == 1;
    let both = match ty.half() {
        Some(half) => [0, 16].map(|shift| holds(half, a >> shift & 0xffff, b >> shift & 0xffff)),
        None => [holds(ty, a, b), !holds(ty, a, b)],
    };
    both.map(|holds| {
        u64::from(match combine {
            Combine::Nothing => holds,
            Combine::And => holds && with,
            Combine::Or => holds || with,
            Combine::Xor => holds != with,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ty(name: &str) -> Type {
        Type::named(name).unwrap()
    }

    fn of(op: A, name: &str, a: i64, b: i64, c: i64) -> u64 {
        let cut = |value: i64| ty(name).cut(value.cast_unsigned());
        let b = if matches!(op, A::Shl | A::Shr | A::Bfe) { b.cast_unsigned() } else { cut(b) };
        compute(op, ty(name), Rounding::default(), [cut(a), b, c.cast_unsigned()])
    }

    /// Values at the edges, by hand from the manual.
    #[test]
    fn integers_wrap_widen_and_keep_their_signs() {
        let u32s = |value: i32| u64::from(value.cast_unsigned());
        for (op, name, a, b, c, expected) in [
            (A::Add, "u32", -1, 2, 0, 1),
            (A::Sub, "s64", 0, 1, 0, u64::MAX),
            (A::Mul, "s32", -3, 5, 0, u32s(-15)),
            (A::MulWide, "s32", -3, 5, 0, (-15i64).cast_unsigned()),
            (A::MulWide, "u32", -1, -1, 0, 0xffff_fffe_0000_0001),
            (A::MulWide, "u16", -1, -1, 0, 0xfffe_0001),
            (A::MulHi, "u32", -1, -1, 0, 0xffff_fffe),
            (A::MulHi, "u64", -1, -1, 0, u64::MAX - 1),
            (A::MulHi, "s32", -1, 1, 0, u32s(-1)),
            (A::Mad, "s64", 3, 4, -13, u64::MAX),
            (A::MadWide, "s32", -2, 3, 1, (-5i64).cast_unsigned()),
            (A::Div, "s32", -7, 2, 0, u32s(-3)),
            (A::Div, "u32", -7, 2, 0, 0x7fff_fffc),
            (A::Div, "s64", i64::MIN, -1, 0, 1 << 63),
            (A::Rem, "s32", -7, 2, 0, u32s(-1)),
            (A::Not, "b16", 0xff, 0, 0, 0xff00),
            (A::Not, "pred", 1, 0, 0, 0),
            (A::Neg, "s32", i64::from(i32::MIN), 0, 0, 1 << 31),
            (A::Abs, "s32", -5, 0, 0, 5),
            (A::Shl, "b32", 3, 31, 0, 1 << 31),
            (A::Shl, "b32", 3, 32, 0, 0),
            (A::Shl, "b64", 1, 64, 0, 0),
            (A::Shr, "u32", -1, 31, 0, 1),
            (A::Shr, "s32", -8, 40, 0, u32s(-1)),
            (A::Shr, "s32", -8, 1, 0, u32s(-4)),
            (A::Bfe, "u32", 0xabcd, 4, 8, 0xbc),
            (A::Bfe, "s32", 0xabcd, 4, 8, u32s(-68)),
            (A::Bfe, "u32", -1, 28, 8, 0xf),
            (A::Bfe, "u32", -1, 3, 0, 0),
            (A::Min, "s32", -1, 1, 0, u32s(-1)),
            (A::Min, "u32", -1, 1, 0, 1),
            (A::Max, "s64", -1, 1, 0, 1),
            (A::Popc, "b32", -1, 0, 0, 32),
            (A::Selp, "b32", 5, 7, 0, 7),
            (A::Setp(Compare::Lt), "s32", -1, 1, 0, 1),
            (A::Setp(Compare::Lt), "u32", -1, 1, 0, 0),
            (A::Setp(Compare::Ge), "b64", 4, 4, 0, 1),
        ] {
            assert_eq!(of(op, name, a, b, c), expected, "{op:?}.{name} {a}, {b}, {c}");
        }
    }
}

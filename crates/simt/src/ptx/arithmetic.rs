//! What arithmetic instructions compute. PTX ISA 9.0, sections 9.7.1 to 9.7.9.

use std::cmp::Ordering;

use half::f16;

use super::code::{Arithmetic as A, Compare, Kind, Type};
use crate::ops;

fn float(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn bits(value: f32) -> u64 {
    u64::from(value.to_bits())
}

/// The result of an operation on values of a type, each cut to its bits.
pub(super) fn compute(op: A, ty: Type, [a, b, c]: [u64; 3]) -> u64 {
    match ty.kind {
        Kind::Float => of_floats(op, ty, [a, b, c]),
        _ => ty_of_result(op, ty).cut(of_integers(op, ty, [a, b, c])),
    }
}

/// The type of the result.
fn ty_of_result(op: A, ty: Type) -> Type {
    match op {
        A::MulWide | A::MadWide => Type { bits: 2 * ty.bits, ..ty },
        A::Setp(_) => Type { bits: 1, kind: Kind::Bits },
        A::Popc => Type { bits: 32, kind: Kind::Bits },
        _ => ty,
    }
}

fn of_integers(op: A, ty: Type, [a, b, c]: [u64; 3]) -> u64 {
    let is_signed = ty.kind == Kind::Signed;
    // To 128 bits, so that no product or quotient of 64 overflows.
    let wide = |value: u64| if is_signed { i128::from(ty.signed(value)) } else { i128::from(value) };
    let low = |value: i128| value as u64;
    match op {
        A::Mov => a,
        A::Add => a.wrapping_add(b),
        A::Sub => a.wrapping_sub(b),
        A::Mul => a.wrapping_mul(b),
        A::Mad => a.wrapping_mul(b).wrapping_add(c),
        A::MulWide => low(wide(a).wrapping_mul(wide(b))),
        A::MadWide => low(wide(a).wrapping_mul(wide(b))).wrapping_add(c),
        A::MulHi => low(wide(a).wrapping_mul(wide(b)) >> ty.bits),
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
        A::Bfe => field(ty, a, b as u32 & 0xff, c as u32 & 0xff),
        A::Min => low(wide(a).min(wide(b))),
        A::Max => low(wide(a).max(wide(b))),
        A::Popc => u64::from(a.count_ones()),
        A::Selp => {
            if c & 1 == 1 {
                a
            } else {
                b
            }
        }
        A::Setp(compare) => u64::from(holds(compare, Some(wide(a).cmp(&wide(b))))),
        A::Fma | A::Ex2 | A::Rcp | A::Rsqrt => unreachable!("no such instruction is decoded for integers"),
    }
}

/// `bfe`: `length` bits from `start` on, sign-extended for a signed type. PTX ISA 9.7.1.19.
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

fn of_floats(op: A, ty: Type, [a, b, c]: [u64; 3]) -> u64 {
    let (x, y) = (float(a), float(b));
    match op {
        A::Mov => ty.cut(a),
        A::Selp => {
            if c & 1 == 1 {
                a
            } else {
                b
            }
        }
        A::Add => bits(x + y),
        A::Sub => bits(x - y),
        A::Mul => bits(x * y),
        A::Fma => bits(x.mul_add(y, float(c))),
        A::Neg => bits(-x),
        A::Abs => bits(x.abs()),
        A::Min => bits(least(x, y)),
        A::Max => bits(-least(-x, -y)),
        A::Setp(compare) => u64::from(holds(compare, x.partial_cmp(&y))),
        A::Ex2 => bits(ops::ex2_approx(x)),
        A::Rcp => bits(ops::rcp_approx(x)),
        A::Rsqrt => bits(ops::rsqrt_approx(x)),
        _ => unreachable!("no such instruction is decoded for floats"),
    }
}

/// The smaller one: of a NaN and a number the number, of zeros the negative one. PTX ISA 9.7.3.11.
fn least(x: f32, y: f32) -> f32 {
    match x.partial_cmp(&y) {
        Some(Ordering::Less) => x,
        Some(Ordering::Greater) => y,
        Some(Ordering::Equal) => {
            if x.is_sign_negative() {
                x
            } else {
                y
            }
        }
        None if x.is_nan() && y.is_nan() => f32::from_bits(0x7fff_ffff),
        None => {
            if x.is_nan() {
                y
            } else {
                x
            }
        }
    }
}

/// Whether a comparison is true of what was found; None if one is NaN.
fn holds(compare: Compare, found: Option<Ordering>) -> bool {
    found.is_some_and(|found| match compare {
        Compare::Eq => found.is_eq(),
        Compare::Ne => found.is_ne(),
        Compare::Lt => found.is_lt(),
        Compare::Le => found.is_le(),
        Compare::Gt => found.is_gt(),
        Compare::Ge => found.is_ge(),
    })
}

/// `cvt`.
pub(super) fn convert(to: Type, from: Type, value: u64) -> u64 {
    match (to.kind, from.kind) {
        (Kind::Float, Kind::Float) => match (to.bits, from.bits) {
            (16, 32) => u64::from(f16::from_f32(float(value)).to_bits()),
            (32, 16) => bits(f16::from_bits(value as u16).to_f32()),
            _ => value,
        },
        (Kind::Float, Kind::Signed) => bits(from.signed(value) as f32),
        (Kind::Float, _) => bits(value as f32),
        (_, Kind::Signed) => to.cut(from.signed(value).cast_unsigned()),
        _ => to.cut(value),
    }
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
        compute(op, ty(name), [cut(a), b, c.cast_unsigned()])
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

    #[test]
    fn floats_round_once_and_prefer_numbers_to_nan() {
        let of = |op, x: f32, y: f32, z: f32| float(compute(op, ty("f32"), [x, y, z].map(bits)));
        assert_eq!(of(A::Fma, 1.0 + f32::EPSILON, 1.0 - f32::EPSILON, -1.0), -f32::EPSILON * f32::EPSILON);
        assert_eq!(of(A::Max, f32::NAN, -1.0, 0.0), -1.0);
        assert_eq!(of(A::Min, 2.0, f32::NAN, 0.0), 2.0);
        assert!(
            of(A::Min, 0.0, -0.0, 0.0).is_sign_negative() && of(A::Max, -0.0, 0.0, 0.0).is_sign_positive()
        );
        assert!(of(A::Max, f32::NAN, f32::NAN, 0.0).is_nan());
        for compare in [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Ge] {
            assert_eq!(compute(A::Setp(compare), ty("f32"), [bits(f32::NAN), 0, 0]), 0, "{compare:?}");
        }
    }

    #[test]
    fn conversions_cut_extend_and_round_to_even() {
        assert_eq!(convert(ty("u16"), ty("u32"), 0x1_2345), 0x2345);
        assert_eq!(convert(ty("s64"), ty("s32"), 0xffff_fffe), (-2i64).cast_unsigned());
        assert_eq!(convert(ty("u64"), ty("u32"), 0xffff_fffe), 0xffff_fffe);
        assert_eq!(convert(ty("f32"), ty("s32"), 0xffff_fffe), bits(-2.0));
        assert_eq!(convert(ty("f32"), ty("f16"), 0x3c00), bits(1.0));
        // 2049 lies between 2048 and 2050.
        assert_eq!(convert(ty("f16"), ty("f32"), bits(2049.0)), u64::from(f16::from_f32(2048.0).to_bits()));
    }
}

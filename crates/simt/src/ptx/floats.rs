//! What arithmetic instructions compute on floating-point numbers. PTX ISA, "Floating-Point Instructions" to
//! "Half Precision Comparison Instructions".
//!
//! Numbers of 16 bits are computed in f32 and rounded once more: for sums and products that gives what one
//! rounding gives, since 24 bits are more than twice 11 (Figueroa, 1995); fused products are rounded to odd
//! in between.

use half::{bf16, f16};

use super::{
    code::Arithmetic as A,
    comparison::{chosen, holds},
    rounding::{narrowed, odd_sum, rounded},
    types::{Kind, Mode, Rounding, Type},
};
use crate::ops;

/// What a NaN of f32 is that an instruction makes.
const NAN: f32 = f32::from_bits(0x7fff_ffff);

pub(super) fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

pub(super) fn bits(value: f32) -> u64 {
    u64::from(value.to_bits())
}

/// Subnormal numbers to zero of their sign.
pub(super) fn flushed(value: f32) -> f32 {
    if value.is_subnormal() { 0f32.copysign(value) } else { value }
}

/// The f32 of a value of 16 bits.
pub(super) fn widened(kind: Kind, value: u64) -> f32 {
    if kind == Kind::Brain {
        bf16::from_bits(value as u16).to_f32()
    } else {
        f16::from_bits(value as u16).to_f32()
    }
}

#[inline]
pub(super) fn compute(op: A, ty: Type, rounding: Rounding, sources: [u64; 3]) -> u64 {
    let [a, b, c] = sources;
    match op {
        A::Mov => return ty.cut(a),
        A::Selp => return chosen(c & 1 == 1, a, b),
        A::Slct => return chosen((c as u32).cast_signed() >= 0, a, b),
        _ => {}
    }
    match (ty.kind, ty.bits) {
        (Kind::Float, 32) => of_singles(op, rounding, sources),
        (Kind::Float, 64) => of_doubles(op, rounding, sources),
        (Kind::Floats | Kind::Brains, _) => {
            let kind = if ty.kind == Kind::Floats { Kind::Float } else { Kind::Brain };
            let half =
                |shift: u32| of_halves(op, kind, rounding, sources.map(|value| value >> shift & 0xffff));
            half(16) << 16 | half(0)
        }
        (kind, _) => of_halves(op, kind, rounding, sources),
    }
}

fn of_singles(op: A, rounding: Rounding, [a, b, c]: [u64; 3]) -> u64 {
    let [mut x, mut y, mut z] = [a, b, c].map(single);
    if rounding.ftz {
        [x, y, z] = [x, y, z].map(flushed);
    }
    let mode = rounding.mode;
    let result = match op {
        A::Setp(compare) => return u64::from(holds(compare, x.partial_cmp(&y))),
        // In f64 a product of two f32 is exact.
        A::Add if mode != Mode::Nearest => rounded(odd_sum(f64::from(x), f64::from(y)), mode),
        A::Sub if mode != Mode::Nearest => rounded(odd_sum(f64::from(x), -f64::from(y)), mode),
        A::Mul if mode != Mode::Nearest => rounded(f64::from(x) * f64::from(y), mode),
        A::Fma if mode != Mode::Nearest => rounded(odd_sum(f64::from(x) * f64::from(y), f64::from(z)), mode),
        A::Add => x + y,
        A::Sub => x - y,
        A::Mul => x * y,
        A::Fma => x.mul_add(y, z),
        A::Div => x / y,
        A::Sqrt => x.sqrt(),
        A::Rcp => x.recip(),
        A::Neg => -x,
        A::Abs => x.abs(),
        A::CopySign => y.copysign(x),
        A::Min | A::Max => extreme(op, rounding, x, y),
        A::Ex2 => ops::ex2_approx_of(x, rounding.ftz),
        A::Lg2 => ops::lg2_approx(x, rounding.ftz),
        A::RcpApprox => ops::rcp_approx_of(x, rounding.ftz),
        A::Rsqrt => ops::rsqrt_approx_of(x, rounding.ftz),
        A::SqrtApprox => ops::sqrt_approx(x, rounding.ftz),
        A::DivApprox { full } => ops::div_approx(x, y, full, rounding.ftz),
        A::Tanh => ops::tanh_approx(x),
        A::Sin => ops::sin_approx(x),
        A::Cos => ops::cos_approx(x),
        _ => unreachable!("no such instruction is decoded for f32"),
    };
    let result = if rounding.ftz { flushed(result) } else { result };
    bits(cut(result, rounding))
}

/// What `.sat` and `.relu` make of a result.
fn cut(result: f32, rounding: Rounding) -> f32 {
    if rounding.saturates {
        return if result.is_nan() { 0.0 } else { result.clamp(0.0, 1.0) };
    }
    if rounding.relu && result < 0.0 { 0.0 } else { result }
}

/// An f64 without the lower word of its bits; subnormal ones are flushed.
fn upper(value: f64) -> f64 {
    let value = if value.is_subnormal() { 0f64.copysign(value) } else { value };
    f64::from_bits(value.to_bits() >> 32 << 32)
}

fn of_doubles(op: A, rounding: Rounding, [a, b, c]: [u64; 3]) -> u64 {
    let [x, y, z] = [a, b, c].map(f64::from_bits);
    let result = match op {
        A::Setp(compare) => return u64::from(holds(compare, x.partial_cmp(&y))),
        A::Add => x + y,
        A::Sub => x - y,
        A::Mul => x * y,
        A::Fma => x.mul_add(y, z),
        A::Div => x / y,
        A::Sqrt => x.sqrt(),
        A::Rcp => x.recip(),
        // Of the upper words, the lower one of the result is 0.
        A::RcpApprox => upper(upper(x).recip()),
        A::Rsqrt if rounding.ftz => upper(upper(x).sqrt().recip()),
        A::Rsqrt => x.sqrt().recip(),
        A::Neg => -x,
        A::Abs => x.abs(),
        A::CopySign => y.copysign(x),
        A::Min => least(x, y),
        A::Max => -least(-x, -y),
        _ => unreachable!("no such instruction is decoded for f64"),
    };
    result.to_bits()
}

fn of_halves(op: A, kind: Kind, rounding: Rounding, sources: [u64; 3]) -> u64 {
    const SIGN: u64 = 0x8000;
    let [x, y, z] = sources.map(|value| widened(kind, value));
    let result = match op {
        A::Neg => return sources[0] ^ SIGN,
        A::Abs => return sources[0] & !SIGN,
        A::Setp(compare) => return u64::from(holds(compare, x.partial_cmp(&y))),
        A::Add => x + y,
        A::Sub => x - y,
        A::Mul => x * y,
        // Rounded to odd to f32, then once.
        A::Fma => narrowed(odd_sum(f64::from(x) * f64::from(y), f64::from(z))),
        A::Min | A::Max => extreme(op, rounding, x, y),
        // Within 2^-9.9 of the result for f16, 2^-7 for bf16; of tanh within 2^-10.98 and 2^-8: the nearest
        // is.
        A::Ex2 => narrowed(f64::from(x).exp2()),
        A::Tanh => narrowed(f64::from(x).tanh()),
        _ => unreachable!("no such instruction is decoded for 16 bits"),
    };
    let result = cut(result, rounding);
    u64::from(if kind == Kind::Brain {
        bf16::from_f32(result).to_bits()
    } else {
        f16::from_f32(result).to_bits()
    })
}

/// `min` or `max`.
fn extreme(op: A, rounding: Rounding, x: f32, y: f32) -> f32 {
    if rounding.nan && (x.is_nan() || y.is_nan()) {
        return NAN;
    }
    let [a, b] = if rounding.xorsign { [x.abs(), y.abs()] } else { [x, y] };
    if a.is_nan() && b.is_nan() {
        return NAN;
    }
    let [a, b] = [a, b].map(f64::from);
    let result = if op == A::Min { least(a, b) } else { -least(-a, -b) } as f32;
    if rounding.xorsign { result.copysign(x.signum() * y.signum()) } else { result }
}

/// The smaller one: of a NaN and a number the number, of zeros the negative one. PTX ISA, "min".
fn least(x: f64, y: f64) -> f64 {
    let is_first = x < y || x == y && x.is_sign_negative() || y.is_nan() && !x.is_nan();
    if is_first { x } else { y }
}

#[cfg(test)]
mod tests {
    use super::{super::code::Compare, *};

    fn ty(name: &str) -> Type {
        Type::named(name).unwrap()
    }

    #[test]
    fn floats_round_once_and_prefer_numbers_to_nan() {
        let of = |op, x: f32, y: f32, z: f32| {
            single(compute(op, ty("f32"), Rounding::default(), [x, y, z].map(bits)))
        };
        assert_eq!(of(A::Fma, 1.0 + f32::EPSILON, 1.0 - f32::EPSILON, -1.0), -f32::EPSILON * f32::EPSILON);
        assert_eq!(of(A::Max, f32::NAN, -1.0, 0.0), -1.0);
        assert_eq!(of(A::Min, 2.0, f32::NAN, 0.0), 2.0);
        assert!(
            of(A::Min, 0.0, -0.0, 0.0).is_sign_negative() && of(A::Max, -0.0, 0.0, 0.0).is_sign_positive()
        );
        assert!(of(A::Max, f32::NAN, f32::NAN, 0.0).is_nan());
        for compare in [Compare::Eq, Compare::Ne, Compare::Lt, Compare::Ge] {
            assert_eq!(
                compute(A::Setp(compare), ty("f32"), Rounding::default(), [bits(f32::NAN), 0, 0]),
                0,
                "{compare:?}"
            );
        }
    }

    #[test]
    fn halves_round_once() {
        let of = |op, name: &str, values: [f32; 3]| {
            let to = |value: f32| match name {
                "f16" => u64::from(f16::from_f32(value).to_bits()),
                _ => u64::from(bf16::from_f32(value).to_bits()),
            };
            widened(ty(name).kind, compute(op, ty(name), Rounding::default(), values.map(to)))
        };
        assert_eq!(of(A::Add, "f16", [2048.0, 1.0, 0.0]), 2048.0);
        assert_eq!(of(A::Add, "f16", [2048.0, 3.0, 0.0]), 2052.0);
        assert_eq!(of(A::Mul, "bf16", [1.5, -3.0, 0.0]), -4.5);
        // 1 + 2⁻⁸ lies between two bf16; what is added far below decides.
        let half_step = 2f32.powi(-8);
        assert_eq!(of(A::Fma, "bf16", [1.0, half_step, 1.0]), 1.0);
        assert_eq!(of(A::Fma, "bf16", [1.0 + 2.0 * half_step, half_step, 1.0]), 1.0 + 2.0 * half_step);
        let packed = compute(A::Add, ty("f16x2"), Rounding::default(), [0x3c00_4000, 0x3c00_3c00, 0]);
        assert_eq!(packed, 0x4000_4200);
        assert_eq!(compute(A::Neg, ty("bf16x2"), Rounding::default(), [0x3f80_bf80, 0, 0]), 0xbf80_3f80);
    }

    #[test]
    fn directions_flushes_and_saturation() {
        let of = |op, rounding: Rounding, x: f32, y: f32| {
            single(compute(op, ty("f32"), rounding, [bits(x), bits(y), 0]))
        };
        let mode = |mode| Rounding { mode, ..Rounding::default() };
        let tiny = f32::MIN_POSITIVE;
        assert_eq!(of(A::Add, mode(Mode::Up), 1.0, tiny), 1.0 + f32::EPSILON);
        assert_eq!(of(A::Add, mode(Mode::Zero), 1.0, tiny), 1.0);
        assert_eq!(of(A::Add, mode(Mode::Down), -1.0, -tiny), -1.0 - f32::EPSILON);
        assert_eq!(of(A::Sub, mode(Mode::Zero), 1.0, tiny), 1.0 - f32::EPSILON / 2.0);
        let ftz = Rounding { ftz: true, ..Rounding::default() };
        assert_eq!(of(A::Mul, ftz, tiny, 0.5), 0.0);
        assert_eq!(of(A::Mul, ftz, tiny / 2.0, 4.0), 0.0);
        assert_eq!(of(A::Mul, Rounding::default(), tiny / 2.0, 4.0), 2.0 * tiny);
        let sat = Rounding { saturates: true, ..Rounding::default() };
        assert_eq!([of(A::Add, sat, 1.0, 2.0), of(A::Add, sat, -1.0, 0.0)], [1.0, 0.0]);
        assert_eq!(of(A::Add, sat, f32::NAN, 0.0), 0.0);
        let nan = Rounding { nan: true, ..Rounding::default() };
        assert!(of(A::Max, nan, 1.0, f32::NAN).is_nan());
    }

    #[test]
    fn comparisons_of_nan() {
        let of = |compare| compute(A::Setp(compare), ty("f32"), Rounding::default(), [bits(f32::NAN), 0, 0]);
        assert_eq!([Compare::Neu, Compare::Ltu, Compare::Nan].map(of), [1; 3]);
        assert_eq!([Compare::Ne, Compare::Num].map(of), [0; 2]);
    }
}

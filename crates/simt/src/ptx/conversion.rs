//! What `cvt` computes. PTX ISA, "cvt".

use half::{bf16, f16};

use super::{
    floats::{bits, flushed, single, widened},
    rounding::{narrowed, rounded},
    types::{Kind, Mode, Rounding, Type},
};

/// `cvt` of one value.
pub(super) fn convert(to: Type, from: Type, rounding: Rounding, value: u64) -> u64 {
    match (to.is_float(), from.is_float()) {
        (false, false) => {
            if rounding.saturates {
                return to.cut(clamped(to, integer(from, value)));
            }
            to.cut(integer(from, value) as u64)
        }
        (false, true) => to_integer(to, rounding, float(from, rounding, value)),
        (true, true) if to.kind == Kind::Tensor => to_tensor(rounding, single(value)),
        (true, true) => from_float(to, rounding, to == from, float(from, rounding, value)),
        (true, false) => from_integer(to, rounding, integer(from, value)),
    }
}

/// Two f32 to two of 16 bits, the second one in the lower half.
pub(super) fn convert_pair(to: Type, rounding: Rounding, [high, low]: [u64; 2]) -> u64 {
    let kind = if to.kind == Kind::Brains { Kind::Brain } else { Kind::Float };
    let one = |value: u64| to_half(kind, rounding, f64::from(single(value)));
    one(high) << 16 | one(low)
}

/// Two values of which one type has 8 bits each: two f32, or two of 16 bits in one source; the upper half of
/// the result first.
pub(super) fn convert_eights(to: Type, from: Type, rounding: Rounding, sources: [u64; 2]) -> u64 {
    let relu = |value: f64| if rounding.relu && value < 0.0 { 0.0 } else { value };
    let both = match from.half() {
        Some(half) => [16, 0].map(|shift| f64::from(widened(half.kind, sources[0] >> shift & 0xffff))),
        None => match from.kind {
            Kind::Eights(eight) => [8, 0].map(|shift| eight.value((sources[0] >> shift) as u8)),
            _ => sources.map(|value| f64::from(single(value))),
        },
    };
    let [high, low] = both.map(relu);
    match to.kind {
        Kind::Eights(eight) => u64::from(eight.nearest(high)) << 8 | u64::from(eight.nearest(low)),
        _ => {
            let kind = if to.kind == Kind::Brains { Kind::Brain } else { Kind::Float };
            to_half(kind, rounding, high) << 16 | to_half(kind, rounding, low)
        }
    }
}

fn integer(ty: Type, value: u64) -> i128 {
    if ty.kind == Kind::Signed { i128::from(ty.signed(value)) } else { i128::from(ty.cut(value)) }
}

fn float(ty: Type, rounding: Rounding, value: u64) -> f64 {
    match ty.bits {
        64 => f64::from_bits(value),
        32 if rounding.ftz => f64::from(flushed(single(value))),
        32 => f64::from(single(value)),
        _ => f64::from(widened(ty.kind, value)),
    }
}

/// The nearest that the type has.
fn clamped(ty: Type, value: i128) -> u64 {
    let (least, most) = match ty.kind {
        Kind::Signed => (-(1i128 << (ty.bits - 1)), (1i128 << (ty.bits - 1)) - 1),
        _ => (0, (1i128 << ty.bits) - 1),
    };
    value.clamp(least, most) as u64
}

fn to_whole(value: f64, mode: Mode) -> f64 {
    match mode {
        Mode::NearestInteger => value.round_ties_even(),
        Mode::ZeroInteger => value.trunc(),
        Mode::DownInteger => value.floor(),
        Mode::UpInteger => value.ceil(),
        _ => value,
    }
}

/// Beyond the range to its end; NaN is 0, of 64 bits the highest one alone.
fn to_integer(to: Type, rounding: Rounding, value: f64) -> u64 {
    if value.is_nan() {
        return if to.bits == 64 { 1 << 63 } else { 0 };
    }
    to.cut(clamped(to, to_whole(value, rounding.mode) as i128))
}

fn from_float(to: Type, rounding: Rounding, is_same: bool, value: f64) -> u64 {
    let value = if is_same { to_whole(value, rounding.mode) } else { value };
    let value = match rounding.saturates {
        true if value.is_nan() => 0.0,
        true => value.clamp(0.0, 1.0),
        false => value,
    };
    match to.bits {
        64 => value.to_bits(),
        32 => {
            let result = rounded(value, rounding.mode);
            bits(if rounding.ftz { flushed(result) } else { result })
        }
        _ => to_half(to.kind, rounding, value),
    }
}

/// To the nearest of 19 bits, of two the larger, or by `.rn` the even one.
fn to_tensor(rounding: Rounding, value: f32) -> u64 {
    if value.is_nan() {
        return 0x7fff_ffff;
    }
    let bits = bits(if rounding.relu && value < 0.0 { 0.0 } else { value });
    let up = match rounding.mode {
        Mode::NearestAway => 0x1000,
        Mode::Zero => 0,
        _ => 0xfff + (bits >> 13 & 1),
    };
    if value.is_infinite() { bits } else { (bits + up) & !0x1fff }
}

fn to_half(kind: Kind, rounding: Rounding, value: f64) -> u64 {
    let value = if rounding.relu && value < 0.0 { 0.0 } else { value };
    // To odd, so that the rounding that follows is the only one.
    let odd = narrowed(value);
    let nearest = |value: f32| match kind {
        Kind::Brain => bf16::from_f32(value).to_bits(),
        _ => f16::from_f32(value).to_bits(),
    };
    let result = nearest(odd);
    let found = f64::from(widened(kind, u64::from(result)));
    // One step towards zero, or away from it.
    let step = match rounding.mode {
        Mode::Zero if found.abs() > value.abs() => -1,
        Mode::Up if found < value => {
            if value > 0.0 {
                1
            } else {
                -1
            }
        }
        Mode::Up | Mode::Down if found.is_nan() => 0,
        Mode::Up if found > value => 0,
        Mode::Down if found > value => {
            if value > 0.0 {
                -1
            } else {
                1
            }
        }
        _ => 0,
    };
    u64::from(result.wrapping_add_signed(step))
}

fn from_integer(to: Type, rounding: Rounding, value: i128) -> u64 {
    let exact = value as f64;
    match to.bits {
        64 => exact.to_bits(),
        32 if rounding.mode == Mode::Nearest => bits(value as f32),
        // Of 64 bits f64 may round first: to odd, so that it does not show.
        bits_of_result => {
            let error = value - exact as i128;
            let odd = if error != 0 && exact.to_bits() & 1 == 0 {
                if error > 0 { exact.next_up() } else { exact.next_down() }
            } else {
                exact
            };
            if bits_of_result == 32 {
                bits(rounded(odd, rounding.mode))
            } else {
                to_half(to.kind, rounding, odd)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(to: &str, from: &str, mode: Mode, value: u64) -> u64 {
        let [to, from] = [to, from].map(|name| Type::named(name).unwrap());
        convert(to, from, Rounding { mode, ..Rounding::default() }, value)
    }

    #[test]
    fn conversions_cut_extend_and_round_to_even() {
        let plain = Mode::Nearest;
        assert_eq!(of("u16", "u32", plain, 0x1_2345), 0x2345);
        assert_eq!(of("s64", "s32", plain, 0xffff_fffe), (-2i64).cast_unsigned());
        assert_eq!(of("u64", "u32", plain, 0xffff_fffe), 0xffff_fffe);
        assert_eq!(of("f32", "s32", plain, 0xffff_fffe), bits(-2.0));
        assert_eq!(of("f32", "f16", plain, 0x3c00), bits(1.0));
        // 2049 lies between 2048 and 2050.
        assert_eq!(of("f16", "f32", plain, bits(2049.0)), u64::from(f16::from_f32(2048.0).to_bits()));
        assert_eq!(of("bf16", "f32", plain, bits(-1.5)), 0xbfc0);
        assert_eq!(of("f32", "bf16", plain, 0xbfc0), bits(-1.5));
        // In f64 just above the middle of two f16: not to even.
        assert_eq!(of("f16", "f64", plain, 2049.0f64.next_up().to_bits()), 0x6801);
        assert_eq!(of("f32", "u64", plain, (1 << 53) + (1 << 29) + 1), bits(9_007_200_328_482_816.0));
    }

    #[test]
    fn floats_to_integers_saturate() {
        assert_eq!(of("s32", "f32", Mode::ZeroInteger, bits(-1.9)), 0xffff_ffff);
        assert_eq!(of("s32", "f32", Mode::NearestInteger, bits(2.5)), 2);
        assert_eq!(of("u32", "f32", Mode::UpInteger, bits(2.1)), 3);
        assert_eq!(of("u32", "f32", Mode::DownInteger, bits(-2.1)), 0);
        assert_eq!(of("s32", "f32", Mode::ZeroInteger, bits(1e20)), 0x7fff_ffff);
        assert_eq!(of("s8", "f16", Mode::ZeroInteger, 0x5bff), 0x7f);
        assert_eq!(of("s32", "f32", Mode::ZeroInteger, bits(f32::NAN)), 0);
        assert_eq!(of("f32", "f32", Mode::DownInteger, bits(-1.5)), bits(-2.0));
    }

    #[test]
    fn pairs_and_directions() {
        let pair = |mode| {
            convert_pair(
                Type::named("f16x2").unwrap(),
                Rounding { mode, ..Rounding::default() },
                [bits(2051.0), bits(-2051.0)],
            )
        };
        assert_eq!(pair(Mode::Nearest), 0x6802_e802);
        assert_eq!(pair(Mode::Zero), 0x6801_e801);
        let relu = Rounding { relu: true, ..Rounding::default() };
        assert_eq!(convert_pair(Type::named("bf16x2").unwrap(), relu, [bits(1.0), bits(-1.0)]), 0x3f80_0000);
        assert_eq!(of("f16", "f32", Mode::Up, bits(2049.0)), 0x6801);
        assert_eq!(of("f16", "f32", Mode::Down, bits(-2049.0)), 0xe801);
    }
}

//! Numbers that matrices hold, and how products of them are added up.

use half::{bf16, f16, slice::HalfFloatSliceExt};

/// What a matrix holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    F16,
    Bf16,
    /// The upper 19 bits of an f32.
    Tf32,
    /// Floats of 8 bits, by the bits of exponent and mantissa.
    E4m3,
    E5m2,
    S8,
    U8,
}

impl Number {
    /// By its name in PTX.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "f16" => Self::F16,
            "bf16" => Self::Bf16,
            "tf32" => Self::Tf32,
            "e4m3" => Self::E4m3,
            "e5m2" => Self::E5m2,
            "s8" => Self::S8,
            "u8" => Self::U8,
            _ => return None,
        })
    }

    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::Tf32 => 4,
            Self::E4m3 | Self::E5m2 | Self::S8 | Self::U8 => 1,
        }
    }

    pub(crate) const fn is_integer(self) -> bool {
        matches!(self, Self::S8 | Self::U8)
    }

    /// The values of 32 bytes; there are `K` of them.
    pub(crate) fn widen<const K: usize>(self, bytes: &[u8; 32]) -> [f64; K] {
        debug_assert_eq!(K * self.bytes(), bytes.len());
        let of_halves = |convert: fn(&[u16; 16], &mut [f32; K])| {
            let halves: [u16; 16] =
                std::array::from_fn(|i| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]));
            let mut singles = [0f32; K];
            convert(&halves, &mut singles);
            singles.map(f64::from)
        };
        let of_bytes = |value: fn(u8) -> f64| std::array::from_fn(|i| value(bytes[i]));
        match self {
            Self::F16 => of_halves(|halves, values| {
                bytemuck::cast_slice::<u16, f16>(halves).convert_to_f32_slice(values);
            }),
            Self::Bf16 => of_halves(|halves, values| {
                bytemuck::cast_slice::<u16, bf16>(halves).convert_to_f32_slice(values);
            }),
            Self::Tf32 => std::array::from_fn(|i| {
                let word: [u8; 4] = std::array::from_fn(|byte| bytes[4 * i + byte]);
                f64::from(f32::from_bits(u32::from_le_bytes(word) & !0x1fff))
            }),
            Self::E4m3 => of_bytes(|bits| Eight::E4m3.value(bits)),
            Self::E5m2 => of_bytes(|bits| Eight::E5m2.value(bits)),
            Self::S8 => of_bytes(|bits| f64::from(bits.cast_signed())),
            Self::U8 => of_bytes(f64::from),
        }
    }
}

/// How products are added up. All are kept as an f32, or as its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    F32,
    /// Two in a register.
    F16,
    S32 {
        /// To the range of s32; it wraps otherwise.
        saturates: bool,
    },
}

impl Sum {
    /// The value of an accumulator.
    #[inline(always)]
    pub(crate) fn value(self, bits: f32) -> f64 {
        match self {
            Self::S32 { .. } => f64::from(bits.to_bits().cast_signed()),
            _ => f64::from(bits),
        }
    }

    /// An accumulator of this value.
    #[inline(always)]
    pub(crate) fn of(self, value: f64) -> f32 {
        match self {
            Self::F32 => round_towards_zero(value),
            Self::F16 => f16::from_f64(value).to_f32(),
            Self::S32 { saturates: true } => f32::from_bits((value as i32).cast_unsigned()),
            Self::S32 { saturates: false } => f32::from_bits((value as i64) as u32),
        }
    }
}

/// f64 to f32, as IEEE 754 rounds towards zero: what is beyond the largest f32 becomes the largest.
#[inline(always)]
fn round_towards_zero(value: f64) -> f32 {
    let nearest = value as f32;
    if f64::from(nearest).abs() > value.abs() { f32::from_bits(nearest.to_bits() - 1) } else { nearest }
}

/// Floats of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eight {
    /// Bias 7; no infinity, NaN is all ones.
    E4m3,
    /// Bias 15; the upper half of an f16.
    E5m2,
}

impl Eight {
    /// The value of these bits: all are f16, too.
    pub(crate) fn value(self, bits: u8) -> f64 {
        if self == Self::E5m2 {
            return f16::from_bits(u16::from(bits) << 8).to_f64();
        }
        let (exponent, mantissa) = (i32::from(bits >> 3 & 0xf), f64::from(bits & 7));
        let size = match exponent {
            0xf if bits & 7 == 7 => f64::NAN,
            0 => mantissa * 2f64.powi(-9),
            _ => (1.0 + mantissa / 8.0) * 2f64.powi(exponent - 7),
        };
        if bits >> 7 == 1 { -size } else { size }
    }

    /// The nearest, ties to even; beyond the largest that, NaN is 0x7f.
    pub(crate) fn nearest(self, value: f64) -> u8 {
        const NAN: u8 = 0x7f;
        if value.is_nan() {
            return NAN;
        }
        let most = if self == Self::E4m3 { 0x7e } else { 0x7b };
        // As bits, values of a sign are in order: by halves to the last that is not larger.
        let size = value.abs();
        let below = (0..8).rev().fold(0u8, |at, bit| {
            let next = at | 1 << bit;
            if next <= most && self.value(next) <= size { next } else { at }
        });
        let up = below < most && {
            let (low, high) = (self.value(below), self.value(below + 1));
            size - low > high - size || size - low == high - size && below & 1 == 1
        };
        (below + u8::from(up)) | u8::from(value.is_sign_negative()) << 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_of_eight_bits() {
        for kind in [Eight::E4m3, Eight::E5m2] {
            for bits in 0..=0xffu8 {
                let value = kind.value(bits);
                if value.is_finite() {
                    assert_eq!(kind.nearest(value), bits, "{kind:?} {value}");
                }
            }
            assert_eq!(kind.nearest(f64::NAN), 0x7f);
        }
        // By hand: the largest, the smallest, a tie to even, half of the smallest.
        assert_eq!([Eight::E4m3.value(0x7e), Eight::E5m2.value(0x7b)], [448.0, 57344.0]);
        assert_eq!([Eight::E4m3.nearest(1e9), Eight::E5m2.nearest(-1e9)], [0x7e, 0xfb]);
        assert_eq!([Eight::E4m3.value(1), Eight::E5m2.value(1)], [2f64.powi(-9), 2f64.powi(-16)]);
        assert_eq!([Eight::E4m3.nearest(17.0), Eight::E4m3.nearest(19.0)], [0x58, 0x5a]);
        assert_eq!([Eight::E4m3.nearest(2f64.powi(-10)), Eight::E5m2.nearest(1.5 * 2f64.powi(-16))], [0, 2]);
    }
}

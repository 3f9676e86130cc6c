//! Types of values, and how arithmetic on them rounds. PTX ISA, "Types".

use crate::numbers::Eight;

/// A type: how many bits, and as what they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    pub(crate) bits: u32,
    pub(crate) kind: Kind,
}

/// As what bits are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Unsigned, or without a meaning.
    Bits,
    Signed,
    /// IEEE 754 of 16, 32 or 64 bits.
    Float,
    /// The upper half of an f32.
    Brain,
    /// Two of 16 bits.
    Floats,
    Brains,
    Pair,
    SignedPair,
    /// An f32 without its lower 13 bits.
    Tensor,
    /// Two floats of 8 bits.
    Eights(Eight),
}

impl Type {
    pub(crate) const fn new(bits: u32, kind: Kind) -> Self {
        Self { bits, kind }
    }

    /// By its suffix, without the dot. PTX ISA, "Types".
    pub(crate) fn named(name: &str) -> Option<Self> {
        let (kind, bits) = match name {
            "pred" => (Kind::Bits, 1),
            "bf16" => (Kind::Brain, 16),
            "f16x2" => (Kind::Floats, 32),
            "bf16x2" => (Kind::Brains, 32),
            "u16x2" => (Kind::Pair, 32),
            "s16x2" => (Kind::SignedPair, 32),
            "tf32" => (Kind::Tensor, 32),
            "e4m3x2" => (Kind::Eights(Eight::E4m3), 16),
            "e5m2x2" => (Kind::Eights(Eight::E5m2), 16),
            _ => {
                let (kind, bits) = name.split_at_checked(1)?;
                let kind = match kind {
                    "b" | "u" => Kind::Bits,
                    "s" => Kind::Signed,
                    "f" => Kind::Float,
                    _ => return None,
                };
                let bits = match bits {
                    "8" if kind != Kind::Float => 8,
                    "16" => 16,
                    "32" => 32,
                    "64" => 64,
                    _ => return None,
                };
                (kind, bits)
            }
        };
        Some(Self { bits, kind })
    }

    /// Whether it is of floating-point numbers, one or two.
    pub(crate) const fn is_float(self) -> bool {
        !matches!(self.kind, Kind::Bits | Kind::Signed | Kind::Pair | Kind::SignedPair)
    }

    /// Whether a value is two.
    pub(crate) const fn is_packed(self) -> bool {
        self.half().is_some()
    }

    /// The type of each half of a value that is two.
    pub(crate) const fn half(self) -> Option<Self> {
        let kind = match self.kind {
            Kind::Floats => Kind::Float,
            Kind::Brains => Kind::Brain,
            Kind::Pair => Kind::Bits,
            Kind::SignedPair => Kind::Signed,
            _ => return None,
        };
        Some(Self::new(16, kind))
    }

    /// The bits of a value that the type has.
    pub(crate) fn cut(self, value: u64) -> u64 {
        if self.bits == 64 { value } else { value & ((1 << self.bits) - 1) }
    }

    /// The value of these bits, with the sign of the type.
    pub(crate) fn signed(self, value: u64) -> i64 {
        let unused = 64 - self.bits;
        (value << unused).cast_signed() >> unused
    }
}

/// How an instruction on floating-point numbers departs from rounding to the nearest. PTX ISA,
/// "Floating-Point Instructions".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rounding {
    pub(crate) mode: Mode,
    /// Subnormal operands and results of f32 are zeros of their sign.
    pub(crate) ftz: bool,
    /// Results are cut to 0 to 1, NaN is 0; or, of integers, to what the type has.
    pub(crate) saturates: bool,
    /// Negative results are 0; of `cvt`.
    pub(crate) relu: bool,
    /// `min` and `max` of a NaN are NaN.
    pub(crate) nan: bool,
    /// `min` and `max` are of magnitudes; the sign is that of a product.
    pub(crate) xorsign: bool,
}

/// In which direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Nearest,
    Zero,
    Down,
    Up,
    /// To the nearest, of two the larger in magnitude.
    NearestAway,
    /// To an integer: likewise in this order.
    NearestInteger,
    ZeroInteger,
    DownInteger,
    UpInteger,
}

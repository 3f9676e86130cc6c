use std::fmt;

use half::{bf16, f16};

use crate::problem::DType;

/// An element type of x, W and y: [`struct@f16`], [`bf16`] or `f32`. Sealed.
pub trait Element: sealed::Sealed + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The type as a value.
    const DTYPE: DType;

    /// Exactly, but for the payload of a NaN.
    fn to_f32(self) -> f32;

    /// Rounds to nearest, ties to even.
    fn from_f32(value: f32) -> Self;

    /// Exactly.
    fn to_f64(self) -> f64 {
        f64::from(self.to_f32())
    }
}

/// What A and B of an adapter may be for a layer of `T`: the same type, or f32. With f32 h is not rounded;
/// PEFT keeps A and B in f32 by default. Sealed.
pub trait AdapterElement<T: Element>: Element + sealed::Over<T> {}

impl Element for f16 {
    const DTYPE: DType = DType::F16;

    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }
}

impl Element for bf16 {
    const DTYPE: DType = DType::Bf16;

    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }

    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;

    fn to_f32(self) -> f32 {
        self
    }

    fn from_f32(value: f32) -> Self {
        value
    }
}

impl AdapterElement<f16> for f16 {}
impl AdapterElement<bf16> for bf16 {}
impl<T: Element> AdapterElement<T> for f32 {}

pub(crate) mod sealed {
    use half::{bf16, f16};

    /// What the CPU's kernels ask of an element.
    #[allow(private_bounds, reason = "that is what seals it")]
    pub trait Sealed: crate::cpu::Compute {}
    impl Sealed for f16 {}
    impl Sealed for bf16 {}
    impl Sealed for f32 {}

    /// That a layer of `T` takes an adapter of this type.
    pub trait Over<T> {}
    impl Over<f16> for f16 {}
    impl Over<bf16> for bf16 {}
    impl<T> Over<T> for f32 {}
}

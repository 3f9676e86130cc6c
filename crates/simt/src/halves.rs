//! Numbers of 16 bits, as matrices hold them.

use half::{bf16, f16, slice::HalfFloatSliceExt};

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    /// The values of these bits; both slices are equally long.
    pub(crate) fn widen(self, bits: &[u16], values: &mut [f32]) {
        match self {
            Self::F16 => bytemuck::cast_slice::<u16, f16>(bits).convert_to_f32_slice(values),
            Self::Bf16 => bytemuck::cast_slice::<u16, bf16>(bits).convert_to_f32_slice(values),
        }
    }
}

use std::fmt;

use half::{bf16, f16};

use super::kernel::{MicroKernel, levels::Level};
use crate::problem::{DType, Granule};

/// Calls a function whose first type is [`Level`](super::kernel::levels::Level) with the kernels of `$simd`
/// for a layer of `$T` and an adapter of `$H`.
macro_rules! dispatch {
    ($simd:expr, $T:ty, $H:ty => $($function:ident)::+ ($($argument:expr),* $(,)?)) => {{
        use $crate::cpu::kernel;
        match $simd {
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Simd::Amx => {
                $($function)::+::<<$T as kernel::levels::Compute>::Amx<$H>>($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Simd::Avx512Bf16 => {
                $($function)::+::<<$T as kernel::levels::Compute>::Avx512Bf16<$H>>($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Simd::Avx512 => {
                $($function)::+::<kernel::avx512::Avx512<$T, $H>>($($argument),*)
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Simd::Avx2 => $($function)::+::<kernel::avx2::Avx2<$T, $H>>($($argument),*),
            _ => $($function)::+::<kernel::portable::Portable<$T, $H>>($($argument),*),
        }
    }};
}
pub(crate) use dispatch;

/// The environment variable that overrides the choice of [`Simd::detect`].
pub const SIMD_VARIABLE: &str = "FUSED_LORA_SIMD";

/// A SIMD level: the instructions that the micro-kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Simd {
    /// AMX with BF16 (Linux): bf16 in 32 × 32 tiles; the other types as [`Avx512`](Self::Avx512).
    Amx,
    /// AVX-512 with BF16: bf16 in 8 × 48 tiles, pairs of K; the other types as [`Avx512`](Self::Avx512).
    Avx512Bf16,
    /// AVX-512F with AVX2, FMA and F16C: 8 × 48 tiles, panels of the weight's type.
    Avx512,
    /// AVX2, FMA and F16C: 6 × 16 tiles, panels of the weight's type.
    Avx2,
    /// Whatever the compiler makes of plain loops: 4 × 8 tiles, f32 panels.
    Portable,
}

impl Simd {
    /// All levels, the fastest first.
    pub const ALL: &'static [Simd] = &[Simd::Amx, Simd::Avx512Bf16, Simd::Avx512, Simd::Avx2, Simd::Portable];

    /// Whether this machine has the instructions.
    pub(crate) fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Simd::Amx => Simd::Avx512Bf16.is_available() && super::kernel::amx::permitted(),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512Bf16 => is_x86_feature_detected!("avx512bf16") && Simd::Avx512.is_available(),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => is_x86_feature_detected!("avx512f") && Simd::Avx2.is_available(),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Simd::Amx | Simd::Avx512Bf16 | Simd::Avx512 | Simd::Avx2 => false,
            Simd::Portable => true,
        }
    }

    /// The level whose kernels compute with elements of this type where this level is asked for: itself, or
    /// the next one that has kernels of its own for the type.
    pub fn serving(self, dtype: DType) -> Simd {
        match (self, dtype) {
            (Simd::Amx | Simd::Avx512Bf16, DType::F16 | DType::F32) => Simd::Avx512,
            _ => self,
        }
    }

    /// The multiples of the rank that the kernels of this level compute: whole vectors of h in the shrink,
    /// whole granules of K in the expand.
    pub fn granule(self, dtype: DType) -> Granule {
        fn of<L: Level>() -> Granule {
            Granule { shrink_n: L::Main::LANES, expand_k: L::Main::K_GRANULE }
        }
        match dtype {
            DType::F16 => dispatch!(self, f16, f16 => of()),
            DType::Bf16 => dispatch!(self, bf16, bf16 => of()),
            DType::F32 => dispatch!(self, f32, f32 => of()),
        }
    }

    /// The name used in [`SIMD_VARIABLE`] and in CSV files.
    pub const fn name(self) -> &'static str {
        match self {
            Simd::Amx => "amx",
            Simd::Avx512Bf16 => "avx512bf16",
            Simd::Avx512 => "avx512",
            Simd::Avx2 => "avx2",
            Simd::Portable => "portable",
        }
    }
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

pub(crate) fn list(levels: &[Simd]) -> String {
    levels.iter().map(|simd| simd.name()).collect::<Vec<_>>().join(", ")
}

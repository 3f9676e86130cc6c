use std::fmt;

use crate::problem::Granule;

/// The environment variable that overrides the choice of [`Simd::detect`].
pub const SIMD_VARIABLE: &str = "FUSED_LORA_SIMD";

/// A SIMD level: the instructions that the micro-kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Simd {
    /// AVX-512F with AVX2, FMA and F16C: 8 × 48 tiles, f16 panels.
    Avx512,
    /// AVX2, FMA and F16C: 6 × 16 tiles, f16 panels.
    Avx2,
    /// Whatever the compiler makes of plain loops: 4 × 8 tiles, f32 panels.
    Portable,
}

impl Simd {
    /// All levels, the fastest first.
    pub const ALL: &'static [Simd] = &[Simd::Avx512, Simd::Avx2, Simd::Portable];

    /// Whether this machine has the instructions.
    pub(crate) fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => is_x86_feature_detected!("avx512f") && Simd::Avx2.is_available(),
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Simd::Avx512 | Simd::Avx2 => false,
            Simd::Portable => true,
        }
    }

    /// The multiples of the rank that the kernels of this level compute: whole vectors of h in the shrink,
    /// exactly r steps in the expand.
    pub fn granule(self) -> Granule {
        use super::kernel::MicroKernel;
        let shrink_n = match self {
            #[cfg(target_arch = "x86_64")]
            Simd::Avx512 => super::kernel::avx512::Avx512::LANES,
            #[cfg(target_arch = "x86_64")]
            Simd::Avx2 => super::kernel::avx2::Avx2::LANES,
            _ => super::kernel::portable::Portable::LANES,
        };
        Granule { shrink_n, expand_k: 1 }
    }

    /// The name used in [`SIMD_VARIABLE`] and in CSV files.
    pub const fn name(self) -> &'static str {
        match self {
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

/// Runs `$body` with the type `$Kernel` standing for the micro-kernels of `$simd`.
macro_rules! dispatch {
    ($simd:expr, $Kernel:ident => $body:expr) => {
        match $simd {
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Simd::Avx512 => {
                type $Kernel = $crate::cpu::kernel::avx512::Avx512;
                $body
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::Simd::Avx2 => {
                type $Kernel = $crate::cpu::kernel::avx2::Avx2;
                $body
            }
            _ => {
                type $Kernel = $crate::cpu::kernel::portable::Portable;
                $body
            }
        }
    };
}
pub(crate) use dispatch;

pub(crate) fn list(levels: &[Simd]) -> String {
    levels.iter().map(|simd| simd.name()).collect::<Vec<_>>().join(", ")
}

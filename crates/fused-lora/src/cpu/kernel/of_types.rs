//! The levels that serve some types only: what they are for each type.

use half::{bf16, f16};

use super::levels::Compute;
#[cfg(target_arch = "x86_64")]
use super::{Storage, amx::Amx, avx512::Avx512, avx512_bf16::Avx512Bf16};

macro_rules! compute {
    ($type:ty, $amx:ty, $avx512_bf16:ty) => {
        impl Compute for $type {
            #[cfg(target_arch = "x86_64")]
            type Amx<H: Storage> = $amx;
            #[cfg(target_arch = "x86_64")]
            type Avx512Bf16<H: Storage> = $avx512_bf16;
        }
    };
}
compute!(f16, Avx512<Self, H>, Avx512<Self, H>);
compute!(bf16, Amx<H>, Avx512Bf16<H>);
compute!(f32, Avx512<Self, H>, Avx512<Self, H>);

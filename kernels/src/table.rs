//! All entries: what a launcher must know of each, and the entries themselves.

use crate::tile::{
    Blocks, T64x64, T64x64h16, T64x64h32, T64x128, T64x128h16, T128x128, T128x128h16, T128x256, Tile,
};

pub use crate::kernel::{Kernel, Operation, Target};
#[cfg(not(target_arch = "nvptx64"))]
pub use crate::sm90_table::SM90_KERNELS;

macro_rules! kernels {
    ($($name:ident: $operation:ident, $tile:ty, $function:ident<$($argument:tt),*>, aligned $aligned:literal,
        $registers:literal registers, $ctas:literal CTAs;)*) => {
        /// All entries of the PTX for compute capability 8.0.
        pub static KERNELS: &[Kernel] = &[$(
            Kernel {
                name: stringify!($name),
                target: Target::Sm80,
                operation: Operation::$operation,
                aligned: $aligned,
                block_m: <$tile>::BLOCK_M,
                block_n: <$tile>::BLOCK_N,
                block_k: <$tile>::BLOCK_K,
                stages: <$tile>::STAGES,
                h: <$tile>::H,
                max_rank: <$tile>::H,
                h_columns: <$tile>::H_COLUMNS,
                threads: <$tile>::THREADS,
                min_ctas: $ctas,
                max_registers: $registers,
                max_step: None,
                shared_bytes: <$tile>::SHARED_BYTES,
            },
        )*];

        $(
            /// Entry; see [`KERNELS`].
            ///
            /// # Safety
            ///
            /// That of the function it names.
            #[cfg(target_arch = "nvptx64")]
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn $name(params: crate::params::Params) {
                // SAFETY: the launcher's contract.
                unsafe { crate::sm80::$function::<$tile $(, $argument)*>(params) }
            }
        )*
    };
}

// The last arguments are the fragments of a warp: BLOCK_M / WARPS_M / 16, BLOCK_N / WARPS_N / 8, H / WARPS_N
// / 8.
kernels! {
    gemm_128x256: Gemm, T128x256, gemm<true, 4, 8>, aligned true, 255 registers, 1 CTAs;
    gemm_128x128: Gemm, T128x128, gemm<true, 4, 8>, aligned true, 255 registers, 2 CTAs;
    gemm_64x128: Gemm, T64x128, gemm<true, 2, 8>, aligned true, 168 registers, 3 CTAs;
    gemm_64x64: Gemm, T64x64, gemm<true, 2, 4>, aligned true, 128 registers, 4 CTAs;
    gemm_64x64_any: Gemm, T64x64, gemm<false, 2, 4>, aligned false, 168 registers, 3 CTAs;
    fused_128x256: Fused, T128x256, fused<true, 4, 8>, aligned true, 255 registers, 1 CTAs;
    fused_128x128: Fused, T128x128, fused<true, 4, 8>, aligned true, 255 registers, 2 CTAs;
    fused_64x128: Fused, T64x128, fused<true, 2, 8>, aligned true, 168 registers, 3 CTAs;
    fused_64x64: Fused, T64x64, fused<true, 2, 4>, aligned true, 128 registers, 4 CTAs;
    fused_64x64_any: Fused, T64x64, fused<false, 2, 4>, aligned false, 168 registers, 3 CTAs;
    fused_recompute_128x128_h16: FusedRecompute, T128x128h16, fused_recompute<true, 4, 8, 1>,
        aligned true, 255 registers, 2 CTAs;
    fused_recompute_64x128_h16: FusedRecompute, T64x128h16, fused_recompute<true, 2, 8, 1>,
        aligned true, 255 registers, 2 CTAs;
    fused_recompute_64x64_h16: FusedRecompute, T64x64h16, fused_recompute<true, 2, 4, 1>,
        aligned true, 168 registers, 3 CTAs;
    fused_recompute_64x64_h32: FusedRecompute, T64x64h32, fused_recompute<true, 2, 4, 2>,
        aligned true, 168 registers, 3 CTAs;
    shrink_128x128: Shrink, T128x128, shrink<true, 4, 8>, aligned true, 255 registers, 2 CTAs;
    shrink_64x64: Shrink, T64x64, shrink<true, 2, 4>, aligned true, 128 registers, 4 CTAs;
    shrink_64x64_any: Shrink, T64x64, shrink<false, 2, 4>, aligned false, 168 registers, 3 CTAs;
    expand_128x128: Expand, T128x128, expand<4, 8>, aligned true, 255 registers, 2 CTAs;
    expand_64x64: Expand, T64x64, expand<2, 4>, aligned true, 128 registers, 4 CTAs;
}

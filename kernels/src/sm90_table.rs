//! The entries for compute capability 9.0; see [`table`](crate::table).

use crate::sm90_tile::{
    T64x16, T64x32, T64x32h32, T64x64, T64x64h16, T64x64h32, T64x64k, T64x128, T64x128h16, T64x128h32,
    T64x128k, T128x128, T128x128h16, T128x128h32, T128x192, T128x192h16, T128x192h32, T128x256, T128x256c256,
    T128x256h16, T128x256h32, T128x256k16, T256x128, T256x128c128,
};
#[cfg(not(target_arch = "nvptx64"))]
use crate::{
    kernel::{Kernel, Operation, Target},
    sm90_tile::{BLOCK_K, Tile},
    tile::Blocks,
};

macro_rules! kernels {
    ($($name:ident: $operation:ident, $tile:ty, $function:ident<$($argument:literal),*>,
        $registers:literal registers, steps of $consumer:literal and $producer:literal;)*) => {
        /// All entries of the PTX for compute capability 9.0.
        #[cfg(not(target_arch = "nvptx64"))]
        pub static SM90_KERNELS: &[Kernel] = &[$(
            Kernel {
                name: stringify!($name),
                target: Target::Sm90a,
                operation: Operation::$operation,
                aligned: true,
                block_m: <$tile>::BLOCK_M,
                block_n: <$tile>::BLOCK_N,
                block_k: BLOCK_K,
                stages: <$tile>::STAGES,
                h: <$tile>::H,
                max_rank: <$tile>::MAX_RANK,
                h_columns: <$tile>::H_COLUMNS,
                threads: <$tile>::THREADS,
                min_ctas: 1,
                max_registers: $registers,
                max_step: Some([$consumer, $producer]),
                shared_bytes: <$tile>::SHARED_BYTES,
            },
        )*];

        $(
            /// Entry; see [`SM90_KERNELS`](crate::table::SM90_KERNELS).
            ///
            /// # Safety
            ///
            /// That of the function it names.
            #[cfg(target_arch = "nvptx64")]
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn $name(params: crate::tensor_map::TensorParams) {
                let maps: u64;
                // SAFETY: the address of the entry's own parameter, whose first field the maps are. Taken
                // from `params` it would be that of a copy, which the copy engine cannot use.
                unsafe {
                    core::arch::asm!(
                        concat!("mov.b64 {0}, ", stringify!($name), "_param_0;"),
                        "cvta.param.u64 {0}, {0};",
                        out(reg64) maps,
                        options(pure, nomem, nostack),
                    );
                    crate::sm90::$function::<$tile, $($argument),*>(
                        crate::maps::Maps::at(maps),
                        &params.params,
                    )
                }
            }
        )*
    };
}

// The last arguments are the registers of a consumer's sums: (BLOCK_N + H) / 2, and of the two apart.
// The steps are instructions, in SASS: of a consumer's loop, and of the producer's.
kernels! {
    sm90_gemm_128x256: Gemm, T128x256, gemm<128>, 168 registers, steps of 44 and 36;
    sm90_gemm_256x128: Gemm, T256x128, gemm<64>, 96 registers, steps of 44 and 36;
    sm90_gemm_128x192: Gemm, T128x192, gemm<96>, 168 registers, steps of 44 and 36;
    sm90_gemm_128x128: Gemm, T128x128, gemm<64>, 168 registers, steps of 44 and 36;
    sm90_gemm_64x128: Gemm, T64x128, gemm<64>, 255 registers, steps of 44 and 36;
    sm90_gemm_64x64: Gemm, T64x64, gemm<32>, 255 registers, steps of 44 and 36;
    sm90_gemm_64x32: Gemm, T64x32, gemm<16>, 255 registers, steps of 44 and 36;
    sm90_gemm_64x16: Gemm, T64x16, gemm<8>, 255 registers, steps of 44 and 36;
    sm90_gemm_split_k_64x128: GemmSplitK, T64x128k, gemm_split_k<64>, 255 registers, steps of 40 and 32;
    sm90_gemm_split_k_64x64: GemmSplitK, T64x64k, gemm_split_k<32>, 255 registers, steps of 40 and 32;
    sm90_fused_128x256: Fused, T128x256, fused<128, 32>, 168 registers, steps of 48 and 44;
    sm90_fused_256x128: Fused, T256x128, fused<64, 32>, 96 registers, steps of 48 and 44;
    sm90_fused_128x256_c256: Fused, T128x256c256, fused<128, 128>, 168 registers, steps of 48 and 44;
    sm90_fused_256x128_c128: Fused, T256x128c128, fused<64, 64>, 96 registers, steps of 48 and 44;
    sm90_fused_128x128: Fused, T128x128, fused<64, 32>, 168 registers, steps of 48 and 44;
    sm90_fused_64x128: Fused, T64x128, fused<64, 32>, 255 registers, steps of 48 and 44;
    sm90_fused_64x64: Fused, T64x64, fused<32, 32>, 255 registers, steps of 48 and 44;
    sm90_fused_cooperative_128x256_h16: FusedCooperative, T128x256h16,
        fused_cooperative<128, 128, 8>, 168 registers, steps of 58 and 47;
    sm90_fused_cooperative_128x256_h32: FusedCooperative, T128x256h32,
        fused_cooperative<128, 128, 16>, 168 registers, steps of 58 and 47;
    sm90_fused_cooperative_128x256_k16: FusedCooperative, T128x256k16,
        fused_cooperative<128, 128, 8>, 168 registers, steps of 120 and 55;
    sm90_fused_cooperative_128x192_h16: FusedCooperative, T128x192h16,
        fused_cooperative<104, 96, 8>, 168 registers, steps of 46 and 47;
    sm90_fused_cooperative_128x192_h32: FusedCooperative, T128x192h32,
        fused_cooperative<112, 96, 16>, 168 registers, steps of 46 and 47;
    sm90_fused_cooperative_128x128_h16: FusedCooperative, T128x128h16,
        fused_cooperative<72, 64, 8>, 168 registers, steps of 46 and 47;
    sm90_fused_cooperative_128x128_h32: FusedCooperative, T128x128h32,
        fused_cooperative<80, 64, 16>, 168 registers, steps of 46 and 47;
    sm90_fused_cooperative_64x128_h16: FusedCooperative, T64x128h16,
        fused_cooperative<72, 64, 8>, 255 registers, steps of 46 and 47;
    sm90_fused_cooperative_64x128_h32: FusedCooperative, T64x128h32,
        fused_cooperative<80, 64, 16>, 255 registers, steps of 46 and 47;
    sm90_fused_cooperative_64x64_h16: FusedCooperative, T64x64h16,
        fused_cooperative<40, 32, 8>, 255 registers, steps of 46 and 47;
    sm90_fused_cooperative_64x64_h32: FusedCooperative, T64x64h32,
        fused_cooperative<48, 32, 16>, 255 registers, steps of 46 and 47;
    sm90_fused_cooperative_64x32_h32: FusedCooperative, T64x32h32,
        fused_cooperative<32, 16, 16>, 255 registers, steps of 46 and 47;
}

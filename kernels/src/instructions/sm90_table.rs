//! The instructions that compute capability 9.0 has beside those of 8.0: how each entry is launched, what it must compile to,
//! and the entries themselves.

use super::Params;
#[cfg(target_arch = "nvptx64")]
use super::{item::Item, sm90::*};
#[cfg(target_arch = "nvptx64")]
use crate::maps::Maps;
use crate::tensor_map::TensorMap;

/// What a launch of any of these entries gets. The address of the map must be a multiple of 64 in the memory of
/// parameters, as for [`TensorParams`](crate::tensor_map::TensorParams).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Sm90Params {
    /// For those that copy boxes, else none: a matrix of f16 that all items share.
    pub map: TensorMap,
    /// As for any instruction.
    pub params: Params,
}

/// An entry that runs one instruction of compute capability 9.0.
#[derive(Clone, Copy, Debug)]
pub struct Sm90Instruction {
    /// Its name in the PTX: `instruction_`, then that of the instruction in `device`.
    pub name: &'static str,
    /// Threads of a CTA.
    pub threads: u32,
    /// CTAs of a cluster. Grid and items are multiples of it.
    pub cluster: u32,
    /// Launches, each programmatically dependent on the one ahead, whose output is its input.
    pub launches: u32,
    /// Whether it needs a map, whose boxes the input names.
    pub tensor_map: bool,
    /// Dynamic shared memory, in bytes.
    pub shared_bytes: u32,
    /// Input of an item, in words.
    pub input_words: u32,
    /// Output of an item, in words.
    pub output_words: u32,
    /// Registers a thread may have; the build fails above. Those that a thread starts with where the entry moves
    /// registers.
    pub max_registers: u32,
    /// Instructions that the machine code must have, by parts of their mnemonics, as in
    /// [`Instruction::machine_code`](crate::instructions::Instruction::machine_code).
    pub machine_code: &'static [&'static str],
}

macro_rules! instructions {
    // What is called: with an item, and with a map where one is needed.
    (@call $module:ident::$function:ident<$($r:literal)?>($item:ident, $map:expr) with map) => {
        $module::$function($item, $map)
    };
    (@call $module:ident::$function:ident<$($r:literal)?>($item:ident, $map:expr)) => {
        $module::$function$(::<$r>)?($item)
    };
    // The map of an entry: by the address of the entry's own parameter, as in `sm90_table`.
    (@map $name:ident) => {{
        let address: u64;
        core::arch::asm!(
            concat!("mov.b64 {0}, ", stringify!($name), "_param_0;"),
            "cvta.param.u64 {0}, {0};",
            out(reg64) address,
            options(pure, nomem, nostack),
        );
        // The first of its maps, and the only one here.
        Maps::at(address).x()
    }};
    (@has map) => { true };
    (@has) => { false };
    ($($name:ident: $module:ident::$function:ident$(<$r:literal>)? $(with $map:ident)?,
        $threads:literal threads, clusters of $cluster:literal, $launches:literal launches, $shared:literal bytes shared,
        $input:literal -> $output:literal words, $registers:literal registers, [$($machine_code:literal),*];)*) => {
        /// All entries of the PTX.
        pub static SM90_INSTRUCTIONS: &[Sm90Instruction] = &[$(
            Sm90Instruction {
                name: stringify!($name),
                threads: $threads,
                cluster: $cluster,
                launches: $launches,
                tensor_map: instructions!(@has $($map)?),
                shared_bytes: $shared,
                input_words: $input,
                output_words: $output,
                max_registers: $registers,
                machine_code: &[$($machine_code),*],
            },
        )*];

        $(
            /// Entry; see [`SM90_INSTRUCTIONS`].
            ///
            /// # Safety
            ///
            /// The operands are as [`Sm90Params`] says; the launch has the threads, clusters and shared memory of its row.
            #[cfg(target_arch = "nvptx64")]
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn $name(params: Sm90Params) {
                if let Some(item) = Item::of_this_cta(params.params, $input, $output) {
                    // SAFETY: the launcher's contract.
                    unsafe {
                        instructions!(
                            @call $module::$function<$($r)?>(item, instructions!(@map $name)) $(with $map)?
                        )
                    }
                }
            }

        )*
    };
}

instructions! {
    instruction_cluster_ctarank: cluster::cluster_ctarank, 64 threads, clusters of 4, 1 launches, 0 bytes shared, 0 -> 64 words, 40 registers, [];
    instruction_cluster_nctarank: cluster::cluster_nctarank, 64 threads, clusters of 4, 1 launches, 0 bytes shared, 0 -> 64 words, 40 registers, [];
    instruction_clusterid_x: cluster::clusterid_x, 64 threads, clusters of 4, 1 launches, 0 bytes shared, 0 -> 64 words, 40 registers, [];
    instruction_nclusterid_x: cluster::nclusterid_x, 64 threads, clusters of 4, 1 launches, 0 bytes shared, 0 -> 64 words, 40 registers, [];
    instruction_barrier_cluster: cluster::barrier_cluster, 64 threads, clusters of 4, 1 launches, 0 bytes shared, 64 -> 128 words, 40 registers, ["UCGABAR_ARV", "UCGABAR_WAIT"];
    instruction_mbarrier_init: mbarrier::mbarrier_init, 64 threads, clusters of 1, 1 launches, 512 bytes shared, 64 -> 64 words, 40 registers, ["SYNCS EXCH"];
    instruction_mbarrier_arrive: mbarrier::mbarrier_arrive, 64 threads, clusters of 1, 1 launches, 264 bytes shared, 128 -> 128 words, 40 registers, ["SYNCS ARRIVE A1T0"];
    instruction_mbarrier_try_wait: mbarrier::mbarrier_try_wait, 64 threads, clusters of 1, 1 launches, 512 bytes shared, 0 -> 64 words, 40 registers, ["SYNCS PHASECHK TRYWAIT"];
    instruction_mbarrier_arrive_cluster: mbarrier::mbarrier_arrive_cluster, 64 threads, clusters of 4, 1 launches, 32 bytes shared, 0 -> 64 words, 40 registers, ["SYNCS ARRIVE RED"];
    instruction_mbarrier_arrive_expect_tx: bulk::mbarrier_arrive_expect_tx with map, 64 threads, clusters of 1, 1 launches, 5120 bytes shared, 4 -> 1028 words, 40 registers, ["SYNCS ARRIVE TRANS64"];
    instruction_load_box: bulk::load_box with map, 128 threads, clusters of 1, 1 launches, 9216 bytes shared, 4 -> 2048 words, 40 registers, ["UTMALDG 2D"];
    instruction_load_box_multicast: bulk::load_box_multicast with map, 64 threads, clusters of 4, 1 launches, 9216 bytes shared, 8 -> 2048 words, 40 registers, ["UTMALDG 2D MULTICAST"];
    instruction_prefetch_tensor_map: bulk::prefetch_tensor_map with map, 128 threads, clusters of 1, 1 launches, 9216 bytes shared, 4 -> 2048 words, 40 registers, ["UTMACCTL PF"];
    instruction_store_box: bulk::store_box with map, 128 threads, clusters of 1, 1 launches, 9216 bytes shared, 2052 -> 0 words, 40 registers, ["UTMASTG 2D", "FENCE VIEW ASYNC S"];
    instruction_bulk_commit_group: bulk::bulk_commit_group with map, 64 threads, clusters of 1, 1 launches, 7168 bytes shared, 2564 -> 0 words, 40 registers, ["UTMACMDFLUSH"];
    instruction_bulk_wait_group_read: bulk::bulk_wait_group_read with map, 64 threads, clusters of 1, 1 launches, 5120 bytes shared, 2052 -> 0 words, 40 registers, ["DEPBAR LE"];
    instruction_copy_to_cluster: bulk::copy_to_cluster, 64 threads, clusters of 4, 1 launches, 3072 bytes shared, 260 -> 256 words, 40 registers, ["UBLKCP"];
    instruction_fence_proxy_async_global: proxy::fence_proxy_async_global with map, 128 threads, clusters of 1, 1 launches, 3072 bytes shared, 516 -> 1024 words, 40 registers, ["FENCE VIEW ASYNC G"];
    instruction_stmatrix_x4: matrix::stmatrix_x4, 64 threads, clusters of 1, 1 launches, 1024 bytes shared, 320 -> 256 words, 40 registers, ["STSM M88 4"];
    instruction_setmaxnreg_dec: registers::setmaxnreg_dec, 384 threads, clusters of 1, 1 launches, 0 bytes shared, 384 -> 384 words, 168 registers, ["USETMAXREG DEALLOC"];
    instruction_setmaxnreg_inc: registers::setmaxnreg_inc, 384 threads, clusters of 1, 1 launches, 0 bytes shared, 384 -> 384 words, 168 registers, ["USETMAXREG TRY_ALLOC"];
    instruction_griddepcontrol_wait: dependent::griddepcontrol_wait, 64 threads, clusters of 1, 3 launches, 0 bytes shared, 64 -> 64 words, 40 registers, ["ACQBULK"];
    instruction_griddepcontrol_launch_dependents: dependent::griddepcontrol_launch_dependents, 64 threads, clusters of 1, 3 launches, 0 bytes shared, 64 -> 64 words, 40 registers, ["PREEXIT"];
    instruction_wgmma_multiply_64_r8: wgmma::multiply_64<8>, 128 threads, clusters of 1, 1 launches, 10240 bytes shared, 2560 -> 1024 words, 64 registers, ["HGMMA 64x16x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r8: wgmma::multiply_16<8>, 128 threads, clusters of 1, 1 launches, 2560 bytes shared, 640 -> 1024 words, 64 registers, ["HGMMA 64x16x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r8: wgmma::chain<8>, 128 threads, clusters of 1, 1 launches, 12288 bytes shared, 5120 -> 1024 words, 64 registers, ["HGMMA 64x16x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r16: wgmma::multiply_64<16>, 128 threads, clusters of 1, 1 launches, 12288 bytes shared, 3072 -> 2048 words, 72 registers, ["HGMMA 64x32x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r16: wgmma::multiply_16<16>, 128 threads, clusters of 1, 1 launches, 3072 bytes shared, 768 -> 2048 words, 72 registers, ["HGMMA 64x32x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r16: wgmma::chain<16>, 128 threads, clusters of 1, 1 launches, 14336 bytes shared, 5632 -> 2048 words, 72 registers, ["HGMMA 64x32x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r24: wgmma::multiply_64<24>, 128 threads, clusters of 1, 1 launches, 14336 bytes shared, 3584 -> 3072 words, 80 registers, ["HGMMA 64x48x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r24: wgmma::multiply_16<24>, 128 threads, clusters of 1, 1 launches, 3584 bytes shared, 896 -> 3072 words, 80 registers, ["HGMMA 64x48x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r24: wgmma::chain<24>, 128 threads, clusters of 1, 1 launches, 16384 bytes shared, 6144 -> 3072 words, 80 registers, ["HGMMA 64x48x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r32: wgmma::multiply_64<32>, 128 threads, clusters of 1, 1 launches, 16384 bytes shared, 4096 -> 4096 words, 88 registers, ["HGMMA 64x64x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r32: wgmma::multiply_16<32>, 128 threads, clusters of 1, 1 launches, 4096 bytes shared, 1024 -> 4096 words, 88 registers, ["HGMMA 64x64x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r32: wgmma::chain<32>, 128 threads, clusters of 1, 1 launches, 18432 bytes shared, 6656 -> 4096 words, 88 registers, ["HGMMA 64x64x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r40: wgmma::multiply_64<40>, 128 threads, clusters of 1, 1 launches, 18432 bytes shared, 4608 -> 5120 words, 96 registers, ["HGMMA 64x80x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r40: wgmma::multiply_16<40>, 128 threads, clusters of 1, 1 launches, 4608 bytes shared, 1152 -> 5120 words, 96 registers, ["HGMMA 64x80x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r40: wgmma::chain<40>, 128 threads, clusters of 1, 1 launches, 20480 bytes shared, 7168 -> 5120 words, 96 registers, ["HGMMA 64x80x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r48: wgmma::multiply_64<48>, 128 threads, clusters of 1, 1 launches, 20480 bytes shared, 5120 -> 6144 words, 104 registers, ["HGMMA 64x96x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r48: wgmma::multiply_16<48>, 128 threads, clusters of 1, 1 launches, 5120 bytes shared, 1280 -> 6144 words, 104 registers, ["HGMMA 64x96x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r48: wgmma::chain<48>, 128 threads, clusters of 1, 1 launches, 22528 bytes shared, 7680 -> 6144 words, 104 registers, ["HGMMA 64x96x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r64: wgmma::multiply_64<64>, 128 threads, clusters of 1, 1 launches, 24576 bytes shared, 6144 -> 8192 words, 120 registers, ["HGMMA 64x128x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r64: wgmma::multiply_16<64>, 128 threads, clusters of 1, 1 launches, 6144 bytes shared, 1536 -> 8192 words, 120 registers, ["HGMMA 64x128x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r64: wgmma::chain<64>, 128 threads, clusters of 1, 1 launches, 26624 bytes shared, 8704 -> 8192 words, 120 registers, ["HGMMA 64x128x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r72: wgmma::multiply_64<72>, 128 threads, clusters of 1, 1 launches, 26624 bytes shared, 6656 -> 9216 words, 128 registers, ["HGMMA 64x144x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r72: wgmma::multiply_16<72>, 128 threads, clusters of 1, 1 launches, 6656 bytes shared, 1664 -> 9216 words, 128 registers, ["HGMMA 64x144x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r72: wgmma::chain<72>, 128 threads, clusters of 1, 1 launches, 28672 bytes shared, 9216 -> 9216 words, 128 registers, ["HGMMA 64x144x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r80: wgmma::multiply_64<80>, 128 threads, clusters of 1, 1 launches, 28672 bytes shared, 7168 -> 10240 words, 136 registers, ["HGMMA 64x160x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r80: wgmma::multiply_16<80>, 128 threads, clusters of 1, 1 launches, 7168 bytes shared, 1792 -> 10240 words, 136 registers, ["HGMMA 64x160x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r80: wgmma::chain<80>, 128 threads, clusters of 1, 1 launches, 30720 bytes shared, 9728 -> 10240 words, 136 registers, ["HGMMA 64x160x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r96: wgmma::multiply_64<96>, 128 threads, clusters of 1, 1 launches, 32768 bytes shared, 8192 -> 12288 words, 152 registers, ["HGMMA 64x192x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r96: wgmma::multiply_16<96>, 128 threads, clusters of 1, 1 launches, 8192 bytes shared, 2048 -> 12288 words, 152 registers, ["HGMMA 64x192x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r96: wgmma::chain<96>, 128 threads, clusters of 1, 1 launches, 34816 bytes shared, 10752 -> 12288 words, 152 registers, ["HGMMA 64x192x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r104: wgmma::multiply_64<104>, 128 threads, clusters of 1, 1 launches, 34816 bytes shared, 8704 -> 13312 words, 160 registers, ["HGMMA 64x208x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r104: wgmma::multiply_16<104>, 128 threads, clusters of 1, 1 launches, 8704 bytes shared, 2176 -> 13312 words, 160 registers, ["HGMMA 64x208x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r104: wgmma::chain<104>, 128 threads, clusters of 1, 1 launches, 36864 bytes shared, 11264 -> 13312 words, 160 registers, ["HGMMA 64x208x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r112: wgmma::multiply_64<112>, 128 threads, clusters of 1, 1 launches, 36864 bytes shared, 9216 -> 14336 words, 168 registers, ["HGMMA 64x224x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r112: wgmma::multiply_16<112>, 128 threads, clusters of 1, 1 launches, 9216 bytes shared, 2304 -> 14336 words, 168 registers, ["HGMMA 64x224x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r112: wgmma::chain<112>, 128 threads, clusters of 1, 1 launches, 38912 bytes shared, 11776 -> 14336 words, 168 registers, ["HGMMA 64x224x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_64_r128: wgmma::multiply_64<128>, 128 threads, clusters of 1, 1 launches, 40960 bytes shared, 10240 -> 16384 words, 184 registers, ["HGMMA 64x256x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_multiply_16_r128: wgmma::multiply_16<128>, 128 threads, clusters of 1, 1 launches, 10240 bytes shared, 2560 -> 16384 words, 184 registers, ["HGMMA 64x256x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
    instruction_wgmma_chain_r128: wgmma::chain<128>, 128 threads, clusters of 1, 1 launches, 43008 bytes shared, 12800 -> 16384 words, 184 registers, ["HGMMA 64x256x16 F32", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"];
}

//! The instructions that compute capability 9.0 has beside those of 8.0: the table, and the entries
//! themselves.

#[cfg(target_arch = "nvptx64")]
use super::{item::Item, sm90::*};
use super::{
    params::Params,
    row::{Instruction, ROW},
};
#[cfg(target_arch = "nvptx64")]
use crate::maps::Maps;
use crate::tensor_map::TensorMap;

/// What a launch of any of these entries gets. The address of the map must be a multiple of 64 in the memory
/// of parameters, as for [`TensorParams`](crate::tensor_map::TensorParams).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Sm90Params {
    /// For those that copy boxes, else none: a matrix of f16 that all items share.
    pub map: TensorMap,
    /// As for any instruction.
    pub params: Params,
}

/// The map of an entry: by the address of the entry's own parameter, as in `sm90_table`.
#[cfg(target_arch = "nvptx64")]
macro_rules! map {
    ($name:ident) => {{
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
}

macro_rules! entry {
    ($name:ident, $input:expr, $output:expr, |$item:ident| $call:expr) => {
        /// Entry; see [`SM90_INSTRUCTIONS`].
        ///
        /// # Safety
        ///
        /// The operands are as [`Sm90Params`] says; the launch has the threads, clusters and shared memory of
        /// its row.
        #[cfg(target_arch = "nvptx64")]
        #[unsafe(no_mangle)]
        pub unsafe extern "ptx-kernel" fn $name(params: Sm90Params) {
            if let Some($item) = Item::of_this_cta(params.params, $input, $output) {
                // SAFETY: the launcher's contract.
                unsafe { $call }
            }
        }
    };
}

/// Bytes of the operands of `wgmma` with R registers of sums, 64 columns of them; 16 columns; those of a
/// chain, whose last operand, the words of [`CHAIN_LAST`], comes later.
const fn multiply_64_bytes(r: u32) -> u32 {
    64 * 128 + 256 * r
}
const fn multiply_16_bytes(r: u32) -> u32 {
    64 * 32 + 64 * r
}
const fn chain_bytes(r: u32) -> u32 {
    multiply_64_bytes(r) + 64 * 32
}
const CHAIN_LAST: u32 = 64 * 128 / 4;

/// The row of an entry of `wgmma` with R registers of sums.
const fn wgmma(
    name: &'static str,
    r: u32,
    shared_bytes: u32,
    input_words: u32,
    machine_code: &'static [&'static str],
) -> Instruction {
    Instruction {
        name,
        is_sm90: true,
        threads: 128,
        shared_bytes,
        input_words,
        output_words: 128 * r,
        max_registers: 56 + r,
        machine_code,
        ..ROW
    }
}

macro_rules! instructions {
    // What is called: with an item, and with a map where one is needed.
    (@call $name:ident, $module:ident::$function:ident($item:ident) with map) => {
        $module::$function($item, map!($name))
    };
    (@call $name:ident, $module:ident::$function:ident($item:ident)) => {
        $module::$function($item)
    };
    (@has map) => { true };
    (@has) => { false };
    ({$($name:ident: $module:ident::$function:ident $(with $map:ident)?,
        $input:literal -> $output:literal words $({ $($field:ident: $value:literal),* })?,
        [$($machine_code:literal),*];)*}
    wgmma {$($r:literal x $columns:literal:
        $multiply_64:ident, $multiply_64_of:ident, $multiply_16:ident, $chain:ident;)*}) => {
        /// All entries of the PTX.
        pub static SM90_INSTRUCTIONS: &[Instruction] = &[
            $(Instruction {
                name: stringify!($name),
                is_sm90: true,
                tensor_map: instructions!(@has $($map)?),
                input_words: $input,
                output_words: $output,
                $($($field: $value,)*)?
                machine_code: &[$($machine_code),*],
                ..ROW
            },)*
            $(
                wgmma(stringify!($multiply_64), $r, multiply_64_bytes($r), multiply_64_bytes($r) / 4,
                    &[concat!("HGMMA 64x", $columns, "x16 F32"), "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"]),
                wgmma(stringify!($multiply_64_of), $r, multiply_64_bytes($r), multiply_64_bytes($r) / 4,
                    &[concat!("HGMMA 64x", $columns, "x16 F32"), "LDSM", "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"]),
                wgmma(stringify!($multiply_16), $r, multiply_16_bytes($r), multiply_16_bytes($r) / 4,
                    &[concat!("HGMMA 64x", $columns, "x16 F32"), "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"]),
                wgmma(stringify!($chain), $r, chain_bytes($r), chain_bytes($r) / 4 + CHAIN_LAST,
                    &[concat!("HGMMA 64x", $columns, "x16 F32"), "WARPGROUP ARRIVE", "WARPGROUP DEPBAR"]),
            )*
        ];

        $(entry!($name, $input, $output, |item|
            instructions!(@call $name, $module::$function(item) $(with $map)?));)*
        $(
            entry!($multiply_64, multiply_64_bytes($r) / 4, 128 * $r, |item| wgmma::multiply_64::<$r>(item));
            entry!($multiply_64_of, multiply_64_bytes($r) / 4, 128 * $r,
                |item| wgmma::multiply_64_of::<$r>(item));
            entry!($multiply_16, multiply_16_bytes($r) / 4, 128 * $r, |item| wgmma::multiply_16::<$r>(item));
            entry!($chain, chain_bytes($r) / 4 + CHAIN_LAST, 128 * $r, |item| wgmma::chain::<$r>(item));
        )*
    };
}

instructions! {{
    instruction_cluster_ctarank: cluster::cluster_ctarank, 0 -> 64 words { cluster: 4 }, [];
    instruction_cluster_nctarank: cluster::cluster_nctarank, 0 -> 64 words { cluster: 4 }, [];
    instruction_clusterid_x: cluster::clusterid_x, 0 -> 64 words { cluster: 4 }, [];
    instruction_nclusterid_x: cluster::nclusterid_x, 0 -> 64 words { cluster: 4 }, [];
    instruction_barrier_cluster:
        cluster::barrier_cluster, 64 -> 128 words { cluster: 4 }, ["UCGABAR_ARV", "UCGABAR_WAIT"];
    instruction_elect: elect::elect, 0 -> 64 words, ["ELECT"];
    instruction_mbarrier_init: mbarrier::mbarrier_init, 64 -> 64 words { shared_bytes: 512 }, ["SYNCS EXCH"];
    instruction_mbarrier_arrive:
        mbarrier::mbarrier_arrive, 128 -> 128 words { shared_bytes: 264 }, ["SYNCS ARRIVE A1T0"];
    instruction_mbarrier_try_wait:
        mbarrier::mbarrier_try_wait, 0 -> 64 words { shared_bytes: 512 }, ["SYNCS PHASECHK TRYWAIT"];
    instruction_mbarrier_arrive_cluster:
        mbarrier::mbarrier_arrive_cluster, 0 -> 64 words { cluster: 4, shared_bytes: 32 },
        ["SYNCS ARRIVE RED"];
    instruction_mbarrier_arrive_expect_tx:
        bulk::mbarrier_arrive_expect_tx with map, 4 -> 1028 words { shared_bytes: 5120 },
        ["SYNCS ARRIVE TRANS64"];
    instruction_load_box:
        bulk::load_box with map, 4 -> 2048 words { threads: 128, shared_bytes: 9216 }, ["UTMALDG 2D"];
    instruction_load_box_multicast:
        bulk::load_box_multicast with map, 8 -> 2048 words { cluster: 4, shared_bytes: 9216 },
        ["UTMALDG 2D MULTICAST"];
    instruction_prefetch_tensor_map:
        bulk::prefetch_tensor_map with map, 4 -> 2048 words { threads: 128, shared_bytes: 9216 },
        ["UTMACCTL PF"];
    instruction_store_box:
        bulk::store_box with map, 2052 -> 0 words { threads: 128, shared_bytes: 9216 },
        ["UTMASTG 2D", "FENCE VIEW ASYNC S"];
    instruction_bulk_commit_group:
        bulk::bulk_commit_group with map, 2564 -> 0 words { shared_bytes: 7168 }, ["UTMACMDFLUSH"];
    instruction_bulk_wait_group_read:
        bulk::bulk_wait_group_read with map, 2052 -> 0 words { shared_bytes: 5120 }, ["DEPBAR LE"];
    instruction_copy_to_cluster:
        bulk::copy_to_cluster, 260 -> 256 words { cluster: 4, shared_bytes: 3072 }, ["UBLKCP"];
    instruction_mbarrier_arrive_release_cluster:
        bulk::mbarrier_arrive_release_cluster, 512 -> 512 words { cluster: 4, shared_bytes: 4096 },
        ["UBLKCP", "MEMBAR"];
    instruction_fence_proxy_async_global:
        proxy::fence_proxy_async_global with map, 516 -> 1024 words { threads: 128, shared_bytes: 3072 },
        ["FENCE VIEW ASYNC G"];
    instruction_stmatrix_x4: matrix::stmatrix_x4, 320 -> 256 words { shared_bytes: 1024 }, ["STSM M88 4"];
    instruction_setmaxnreg_dec:
        registers::setmaxnreg_dec, 384 -> 384 words { threads: 384, max_registers: 168 },
        ["USETMAXREG DEALLOC"];
    instruction_setmaxnreg_inc:
        registers::setmaxnreg_inc, 384 -> 384 words { threads: 384, max_registers: 168 },
        ["USETMAXREG TRY_ALLOC"];
    instruction_griddepcontrol_wait:
        dependent::griddepcontrol_wait, 64 -> 64 words { launches: 3 }, ["ACQBULK"];
    instruction_griddepcontrol_launch_dependents:
        dependent::griddepcontrol_launch_dependents, 64 -> 64 words { launches: 3 }, ["PREEXIT"];
} wgmma {
    // Registers of the sums, and columns of the product.
    8 x 16:
        instruction_wgmma_multiply_64_r8, instruction_wgmma_multiply_64_of_r8,
        instruction_wgmma_multiply_16_r8, instruction_wgmma_chain_r8;
    16 x 32:
        instruction_wgmma_multiply_64_r16, instruction_wgmma_multiply_64_of_r16,
        instruction_wgmma_multiply_16_r16, instruction_wgmma_chain_r16;
    24 x 48:
        instruction_wgmma_multiply_64_r24, instruction_wgmma_multiply_64_of_r24,
        instruction_wgmma_multiply_16_r24, instruction_wgmma_chain_r24;
    32 x 64:
        instruction_wgmma_multiply_64_r32, instruction_wgmma_multiply_64_of_r32,
        instruction_wgmma_multiply_16_r32, instruction_wgmma_chain_r32;
    40 x 80:
        instruction_wgmma_multiply_64_r40, instruction_wgmma_multiply_64_of_r40,
        instruction_wgmma_multiply_16_r40, instruction_wgmma_chain_r40;
    48 x 96:
        instruction_wgmma_multiply_64_r48, instruction_wgmma_multiply_64_of_r48,
        instruction_wgmma_multiply_16_r48, instruction_wgmma_chain_r48;
    64 x 128:
        instruction_wgmma_multiply_64_r64, instruction_wgmma_multiply_64_of_r64,
        instruction_wgmma_multiply_16_r64, instruction_wgmma_chain_r64;
    72 x 144:
        instruction_wgmma_multiply_64_r72, instruction_wgmma_multiply_64_of_r72,
        instruction_wgmma_multiply_16_r72, instruction_wgmma_chain_r72;
    80 x 160:
        instruction_wgmma_multiply_64_r80, instruction_wgmma_multiply_64_of_r80,
        instruction_wgmma_multiply_16_r80, instruction_wgmma_chain_r80;
    96 x 192:
        instruction_wgmma_multiply_64_r96, instruction_wgmma_multiply_64_of_r96,
        instruction_wgmma_multiply_16_r96, instruction_wgmma_chain_r96;
    104 x 208:
        instruction_wgmma_multiply_64_r104, instruction_wgmma_multiply_64_of_r104,
        instruction_wgmma_multiply_16_r104, instruction_wgmma_chain_r104;
    112 x 224:
        instruction_wgmma_multiply_64_r112, instruction_wgmma_multiply_64_of_r112,
        instruction_wgmma_multiply_16_r112, instruction_wgmma_chain_r112;
    128 x 256:
        instruction_wgmma_multiply_64_r128, instruction_wgmma_multiply_64_of_r128,
        instruction_wgmma_multiply_16_r128, instruction_wgmma_chain_r128;
}}

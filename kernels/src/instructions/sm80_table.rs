//! The instructions that every GPU from compute capability 8.0 on has: the table, and the entries themselves.

use super::row::{Instruction, ROW};
#[cfg(target_arch = "nvptx64")]
use super::{item::Item, params::Params, sm80::*};

macro_rules! instructions {
    ($($name:ident: $module:ident::$function:ident, $input:literal -> $output:literal words
        $({ $($field:ident: $value:literal),* })?, [$($machine_code:literal)?];)*) => {
        /// All entries of the PTX.
        pub static INSTRUCTIONS: &[Instruction] = &[$(
            Instruction {
                name: stringify!($name),
                input_words: $input,
                output_words: $output,
                $($($field: $value,)*)?
                machine_code: &[$($machine_code)?],
                ..ROW
            },
        )*];

        $(
            /// Entry; see [`INSTRUCTIONS`].
            ///
            /// # Safety
            ///
            /// The operands are as [`Params`] says; the launch has the threads and the shared memory of its
            /// row.
            #[cfg(target_arch = "nvptx64")]
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn $name(params: Params) {
                if let Some(item) = Item::of_this_cta(params, $input, $output) {
                    // SAFETY: the launcher's contract.
                    unsafe { $module::$function(item) }
                }
            }

        )*
    };
}

instructions! {
    instruction_thread_idx_x: thread::thread_idx_x, 0 -> 64 words, ["S2R"];
    instruction_block_idx_x: thread::block_idx_x, 0 -> 64 words, ["S2R"];
    instruction_block_dim_x: thread::block_dim_x, 0 -> 64 words, [];
    instruction_grid_dim_x: thread::grid_dim_x, 0 -> 64 words, [];
    instruction_dynamic_shared: thread::dynamic_shared, 0 -> 64 words { shared_bytes: 256 }, [];
    instruction_opaque: thread::opaque, 64 -> 64 words, [];
    instruction_bar_sync:
        barrier::bar_sync, 128 -> 128 words { threads: 128, shared_bytes: 512 }, ["BAR SYNC"];
    instruction_bar_warp_sync: barrier::bar_warp_sync, 64 -> 64 words { shared_bytes: 256 }, [];
    instruction_bar_sync_some:
        barrier::bar_sync_some, 128 -> 128 words { threads: 128, shared_bytes: 512 }, ["BAR SYNC"];
    instruction_pack_f16x2: convert::pack_f16x2, 256 -> 128 words { threads: 128 }, ["F2FP"];
    instruction_f16_to_f32: convert::f16_to_f32, 128 -> 256 words { threads: 128 }, ["HADD2 F32"];
    instruction_ex2_approx: approx::ex2_approx, 128 -> 128 words { threads: 128 }, ["MUFU EX2"];
    instruction_rcp_approx: approx::rcp_approx, 128 -> 128 words { threads: 128 }, ["MUFU RCP"];
    instruction_rsqrt_approx: approx::rsqrt_approx, 128 -> 128 words { threads: 128 }, ["MUFU RSQ"];
    instruction_fma: approx::fma, 192 -> 64 words, ["FFMA"];
    instruction_cp_async_16: cp_async::cp_async_16, 320 -> 256 words { shared_bytes: 1024 }, ["LDGSTS 128"];
    instruction_cp_async_commit_group:
        cp_async::cp_async_commit_group, 768 -> 768 words { shared_bytes: 4096 }, ["LDGDEPBAR"];
    instruction_cp_async_wait_group:
        cp_async::cp_async_wait_group, 1024 -> 1024 words { shared_bytes: 4096 }, ["DEPBAR LE"];
    instruction_global_load_u16: global::load_u16, 256 -> 256 words, ["LDG U16"];
    instruction_global_store_u16: global::store_u16, 256 -> 256 words, ["STG U16"];
    instruction_global_load_u32: global::load_u32, 256 -> 256 words, ["LDG"];
    instruction_global_store_u32: global::store_u32, 256 -> 256 words, ["STG"];
    instruction_global_load_v4: global::load_v4, 256 -> 256 words, ["LDG 128"];
    instruction_global_store_v4: global::store_v4, 256 -> 256 words, ["STG 128"];
    instruction_load_acquire: strong::load_acquire, 64 -> 64 words, ["LDG STRONG GPU"];
    instruction_store_relaxed: strong::store_relaxed, 64 -> 64 words, ["STG STRONG GPU"];
    instruction_atom_inc: strong::atom_inc, 128 -> 128 words, ["ATOMG INC STRONG GPU"];
    instruction_atom_inc_contended:
        strong::atom_inc_contended, 64 -> 64 words { counters: 1 }, ["ATOMG INC STRONG GPU"];
    instruction_red_add_release: strong::red_add_release, 64 -> 1 words, ["ADD STRONG GPU"];
    instruction_release_acquire:
        strong::release_acquire, 0 -> 256 words { shared_bytes: 4, counters: 2 }, ["LDG STRONG GPU"];
    instruction_shared_load_u32: shared::load_u32, 256 -> 256 words { shared_bytes: 1024 }, ["LDS"];
    instruction_shared_store_u32: shared::store_u32, 256 -> 256 words { shared_bytes: 1024 }, ["STS"];
    instruction_shared_store_v2: shared::store_v2, 256 -> 256 words { shared_bytes: 1024 }, ["STS 64"];
    instruction_shared_load_v4: shared::load_v4, 256 -> 256 words { shared_bytes: 1024 }, ["LDS 128"];
    instruction_shared_store_v4: shared::store_v4, 256 -> 256 words { shared_bytes: 1024 }, ["STS 128"];
    instruction_ldmatrix_x4: matrix::ldmatrix_x4, 320 -> 256 words { shared_bytes: 1024 }, ["LDSM M88 4"];
    instruction_ldmatrix_x4_trans:
        matrix::ldmatrix_x4_trans, 320 -> 256 words { shared_bytes: 1024 }, ["LDSM MT88 4"];
    instruction_shfl_bfly: shuffle::shfl_bfly, 128 -> 64 words, ["SHFL BFLY"];
    instruction_shfl_first: shuffle::shfl_first, 64 -> 64 words, ["SHFL IDX"];
    instruction_mma_m16n8k16_f16: matrix::mma_m16n8k16_f16, 768 -> 256 words, ["HMMA 16816 F32"];
}

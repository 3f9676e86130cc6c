//! The instructions that every GPU from compute capability 8.0 on has: how each entry is launched, what it must compile to, and
//! the entries themselves.

#[cfg(target_arch = "nvptx64")]
use super::{Params, item::Item, sm80::*};

/// An entry that runs one instruction.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// Its name in the PTX: `instruction_`, then that of the instruction in `device`.
    pub name: &'static str,
    /// Threads of a CTA.
    pub threads: u32,
    /// Dynamic shared memory, in bytes.
    pub shared_bytes: u32,
    /// Input of an item, in words.
    pub input_words: u32,
    /// Output of an item, in words.
    pub output_words: u32,
    /// Words after the outputs that all items share, 0 before the launch.
    pub counters: u32,
    /// Registers a thread may have; the build fails above.
    pub max_registers: u32,
    /// An instruction that the machine code must have, by parts of its mnemonic on all GPUs: `LDG 128` is in
    /// `LDG.E.128`. Empty where there is none: what ptxas knows it puts in place, and lanes that it knows to be
    /// together need not wait for each other.
    pub machine_code: &'static str,
}

/// Far more than any of them needs: it shows what went wrong, and costs nothing.
const MAX_REGISTERS: u32 = 40;

macro_rules! instructions {
    ($($name:ident: $module:ident::$function:ident, $threads:literal threads, $shared:literal bytes shared,
        $input:literal -> $output:literal words, $counters:literal counters, $machine_code:literal;)*) => {
        /// All entries of the PTX.
        pub static INSTRUCTIONS: &[Instruction] = &[$(
            Instruction {
                name: stringify!($name),
                threads: $threads,
                shared_bytes: $shared,
                input_words: $input,
                output_words: $output,
                counters: $counters,
                max_registers: MAX_REGISTERS,
                machine_code: $machine_code,
            },
        )*];

        $(
            /// Entry; see [`INSTRUCTIONS`].
            ///
            /// # Safety
            ///
            /// The operands are as [`Params`] says; the launch has the threads and the shared memory of its row.
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
    instruction_thread_idx_x: thread::thread_idx_x, 64 threads, 0 bytes shared, 0 -> 64 words, 0 counters, "S2R";
    instruction_block_idx_x: thread::block_idx_x, 64 threads, 0 bytes shared, 0 -> 64 words, 0 counters, "S2R";
    instruction_block_dim_x: thread::block_dim_x, 64 threads, 0 bytes shared, 0 -> 64 words, 0 counters, "";
    instruction_grid_dim_x: thread::grid_dim_x, 64 threads, 0 bytes shared, 0 -> 64 words, 0 counters, "";
    instruction_dynamic_shared: thread::dynamic_shared, 64 threads, 256 bytes shared, 0 -> 64 words, 0 counters, "";
    instruction_opaque: thread::opaque, 64 threads, 0 bytes shared, 64 -> 64 words, 0 counters, "";
    instruction_bar_sync: barrier::bar_sync, 128 threads, 512 bytes shared, 128 -> 128 words, 0 counters, "BAR SYNC";
    instruction_bar_warp_sync: barrier::bar_warp_sync, 64 threads, 256 bytes shared, 64 -> 64 words, 0 counters, "";
    instruction_bar_sync_some: barrier::bar_sync_some, 128 threads, 512 bytes shared, 128 -> 128 words, 0 counters, "BAR SYNC";
    instruction_pack_f16x2: convert::pack_f16x2, 128 threads, 0 bytes shared, 256 -> 128 words, 0 counters, "F2FP";
    instruction_f16_to_f32: convert::f16_to_f32, 128 threads, 0 bytes shared, 128 -> 256 words, 0 counters, "HADD2 F32";
    instruction_ex2_approx: approx::ex2_approx, 128 threads, 0 bytes shared, 128 -> 128 words, 0 counters, "MUFU EX2";
    instruction_rcp_approx: approx::rcp_approx, 128 threads, 0 bytes shared, 128 -> 128 words, 0 counters, "MUFU RCP";
    instruction_rsqrt_approx: approx::rsqrt_approx, 128 threads, 0 bytes shared, 128 -> 128 words, 0 counters, "MUFU RSQ";
    instruction_fma: approx::fma, 64 threads, 0 bytes shared, 192 -> 64 words, 0 counters, "FFMA";
    instruction_cp_async_16: cp_async::cp_async_16, 64 threads, 1024 bytes shared, 320 -> 256 words, 0 counters, "LDGSTS 128";
    instruction_cp_async_commit_group: cp_async::cp_async_commit_group, 64 threads, 4096 bytes shared, 768 -> 768 words, 0 counters, "LDGDEPBAR";
    instruction_cp_async_wait_group: cp_async::cp_async_wait_group, 64 threads, 4096 bytes shared, 1024 -> 1024 words, 0 counters, "DEPBAR LE";
    instruction_global_load_u16: global::load_u16, 64 threads, 0 bytes shared, 256 -> 256 words, 0 counters, "LDG U16";
    instruction_global_store_u16: global::store_u16, 64 threads, 0 bytes shared, 256 -> 256 words, 0 counters, "STG U16";
    instruction_global_load_u32: global::load_u32, 64 threads, 0 bytes shared, 256 -> 256 words, 0 counters, "LDG";
    instruction_global_store_u32: global::store_u32, 64 threads, 0 bytes shared, 256 -> 256 words, 0 counters, "STG";
    instruction_global_load_v4: global::load_v4, 64 threads, 0 bytes shared, 256 -> 256 words, 0 counters, "LDG 128";
    instruction_global_store_v4: global::store_v4, 64 threads, 0 bytes shared, 256 -> 256 words, 0 counters, "STG 128";
    instruction_load_acquire: strong::load_acquire, 64 threads, 0 bytes shared, 64 -> 64 words, 0 counters, "LDG STRONG GPU";
    instruction_store_relaxed: strong::store_relaxed, 64 threads, 0 bytes shared, 64 -> 64 words, 0 counters, "STG STRONG GPU";
    instruction_atom_inc: strong::atom_inc, 64 threads, 0 bytes shared, 128 -> 128 words, 0 counters, "ATOMG INC STRONG GPU";
    instruction_atom_inc_contended: strong::atom_inc_contended, 64 threads, 0 bytes shared, 64 -> 64 words, 1 counters, "ATOMG INC STRONG GPU";
    instruction_red_add_release: strong::red_add_release, 64 threads, 0 bytes shared, 64 -> 1 words, 0 counters, "ADD STRONG GPU";
    instruction_release_acquire: strong::release_acquire, 64 threads, 4 bytes shared, 0 -> 256 words, 2 counters, "LDG STRONG GPU";
    instruction_shared_load_u32: shared::load_u32, 64 threads, 1024 bytes shared, 256 -> 256 words, 0 counters, "LDS";
    instruction_shared_store_u32: shared::store_u32, 64 threads, 1024 bytes shared, 256 -> 256 words, 0 counters, "STS";
    instruction_shared_store_v2: shared::store_v2, 64 threads, 1024 bytes shared, 256 -> 256 words, 0 counters, "STS 64";
    instruction_shared_load_v4: shared::load_v4, 64 threads, 1024 bytes shared, 256 -> 256 words, 0 counters, "LDS 128";
    instruction_shared_store_v4: shared::store_v4, 64 threads, 1024 bytes shared, 256 -> 256 words, 0 counters, "STS 128";
    instruction_ldmatrix_x4: matrix::ldmatrix_x4, 64 threads, 1024 bytes shared, 320 -> 256 words, 0 counters, "LDSM M88 4";
    instruction_ldmatrix_x4_trans: matrix::ldmatrix_x4_trans, 64 threads, 1024 bytes shared, 320 -> 256 words, 0 counters, "LDSM MT88 4";
    instruction_shfl_bfly: shuffle::shfl_bfly, 64 threads, 0 bytes shared, 128 -> 64 words, 0 counters, "SHFL BFLY";
    instruction_mma_m16n8k16_f16: matrix::mma_m16n8k16_f16, 64 threads, 0 bytes shared, 768 -> 256 words, 0 counters, "HMMA 16816 F32";
}

//! The same cells on a GPU: this library beside cuBLASLt, the base product alone and with an adapter.
//!
//! ```text
//! cargo bench --bench gpu_peers                               # four sizes at every rank
//! FUSED_LORA_GRID=full FUSED_LORA_BUDGET_S=300 cargo bench --bench gpu_peers
//! FUSED_LORA_TORCH=python3 cargo bench --bench gpu_peers
//! ```
//!
//! An id is `gpu_peers/<workload>/seq<seq_len>/batch<batch>/r<rank>/<library>/<method>`. One round of a size
//! runs everything that is compared, between calls of this library's base: its own strategies, cuBLASLt's
//! base product, and its three calls (x Wᵀ; h = s·x Aᵀ; y += h Bᵀ). Each call is one launch of a CUDA graph
//! of at least 20 forward passes over rotating buffers, all methods on the same x and y.
//!
//! cuBLASLt runs the fastest of the algorithms that its heuristics offer (up to 32, timed on the real
//! operands), with 32 MiB of workspace. The library is loaded where it is there, under the name that the
//! dynamic loader knows (`libcublasLt.so.12`, or CUDA 13's); where it is not, that is said and this library
//! runs alone.
//!
//! PyTorch, and how what is compared is checked, are as in `peers`; a CUDA graph of PyTorch's has `-graph`
//! behind its name. Without a GPU there is nothing to run, which is no error unless `FUSED_LORA_BACKEND` asks
//! for `cuda`.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    return fused_lora_benches::session::main(&fused_lora_peers::gpu::GPU_PEERS);
    #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
    {
        println!("gpu_peers skipped: it needs Linux on x86-64 or aarch64");
        ExitCode::SUCCESS
    }
}

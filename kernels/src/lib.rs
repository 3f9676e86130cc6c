//! GPU kernels of fused-lora, in Rust: a linear layer with an un-merged LoRA adapter in one launch.
//!
//! ```text
//! h = f16( s · x Aᵀ )              x: [M, K]   W: [N, K]   A: [r, K]   B: [N, r]
//! y = f16( x Wᵀ + h Bᵀ + bias )    h: [M, r]   y: [M, N]
//! ```
//!
//! Two ways to build it:
//!
//! | build | what there is |
//! |---|---|
//! | `nvptx64-nvidia-cuda` (by `cuda-builder`) | the kernels as PTX entries; [`ptx`] is the result |
//! | host | [`params`], [`tile`], [`table`], [`ptx`]: what a launcher needs, never repeated there |
//!
//! The PTX is checked in, and tests run it on the strict machine of `fused-lora-simt`. The crate is `no_std`
//! and depends on nothing but `core`.

#![no_std]
#![cfg_attr(target_arch = "nvptx64", feature(abi_ptx, asm_experimental_arch, stdarch_nvptx))]
#![warn(missing_docs)]

mod address;
pub mod counters;
#[cfg(target_arch = "nvptx64")]
pub mod device;
#[cfg(any(not(target_arch = "nvptx64"), feature = "instructions"))]
pub mod instructions;
#[cfg(not(all(target_arch = "nvptx64", any(feature = "instructions", feature = "sm90"))))]
mod kernel;
pub mod layer_params;
#[cfg(not(all(target_arch = "nvptx64", any(feature = "instructions", feature = "sm90"))))]
pub mod layer_table;
#[cfg(target_arch = "nvptx64")]
mod maps;
pub mod params;
#[cfg(not(target_arch = "nvptx64"))]
pub mod ptx;
#[cfg(target_arch = "nvptx64")]
pub mod sm80;
#[cfg(target_arch = "nvptx64")]
pub mod sm90;
#[cfg(not(all(target_arch = "nvptx64", any(feature = "instructions", not(feature = "sm90")))))]
pub mod sm90_table;
pub mod sm90_tile;
#[cfg(not(all(target_arch = "nvptx64", any(feature = "instructions", feature = "sm90"))))]
pub mod table;
pub mod tensor_map;
pub mod tile;

pub use address::Global;

/// Bounds checks and overflow checks are off in a kernel, and nothing else can panic; a `.func` in the PTX
/// would mean that something did, and the builder rejects it.
#[cfg(target_arch = "nvptx64")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the launch with an error.
    unsafe { core::arch::nvptx::trap() }
}

//! cuBLASLt beside this library, on the same buffers of a GPU: the base product alone, and base, shrink and
//! expand as three calls, each captured in a CUDA graph as this library's strategies are.
//!
//! | module | job |
//! |---|---|
//! | `library` | the library, loaded where it is there, and what it makes |
//! | `matmul` | a product as its descriptors, its heuristics' algorithms, and the call |
//! | `steps` | the products of one forward pass, with their addresses |
//! | `fastest` | which of the algorithms is the fastest here |
//! | `cublaslt` | the peer: all of it as a method that is timed |
//!
//! cuBLASLt gets what its users would give it: 32 MiB of workspace, every algorithm that its heuristics offer
//! (up to 32, timed on these operands), f16 operands with f32 sums, and an adapter that is padded with zeros to
//! a multiple of 8 once, since rows of 16 bytes are what its f16 kernels want. Padding is no useful work, and
//! is not counted as such.

mod cublaslt;
mod fastest;
mod library;
mod matmul;
mod steps;
#[cfg(test)]
mod testing;

use cust::context::{Context, CurrentContext};
use fused_lora::Strategy;
use fused_lora_benches::cuda::Gpu;
use fused_lora_benches::linear::Library;
use fused_lora_benches::linear::cuda::{Ground, this_library};

/// All that run in `gpu_peers`, this library first. Says which version of cuBLASLt there is, or why it is left out.
///
/// # Errors
///
/// If the device fails. That cuBLASLt is not there is none.
pub fn libraries(gpu: &Gpu) -> anyhow::Result<Vec<Library<Ground>>> {
    let ours =
        |rank| -> &'static [Strategy] { if rank == 0 { &[] } else { &[Strategy::Fused, Strategy::Unfused] } };
    let mut libraries = vec![this_library("fused-lora/", ours)];
    // cuBLASLt takes the context that it finds; this library makes its own current in each of its calls alone.
    let context = Context::new(cust::device::Device::get_device(gpu.device.ordinal())?)?;
    CurrentContext::set_current(&context)?;
    match library::open() {
        Ok(handle) => {
            eprintln!("cublasLt: version {}", library::version());
            libraries.push(cublaslt::library(gpu, handle, context)?);
        }
        Err(missing) => eprintln!("cublasLt: {missing}, skipped"),
    }
    Ok(libraries)
}

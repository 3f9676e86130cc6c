//! cuBLASLt beside this library, on the same buffers of a GPU: the base product alone, and base, shrink and
//! expand as three calls, each captured in a CUDA graph as this library's strategies are.
//!
//! | module | job |
//! |---|---|
//! | [`product`] | row-major products in the column-major terms of BLAS: what is asked for |
//! | [`library`] | the library, loaded where it is there, and its handle |
//! | [`matmul`] | a product as cuBLASLt's descriptors, its heuristics' algorithms, and the call |
//! | [`steps`] | the products of one forward pass, with their addresses |
//! | [`weights`] | W, A and B in device memory |
//! | [`fastest`] | which of the algorithms is the fastest here |
//! | [`cublaslt`] | the peer: all of it as a method that is timed |
//! | [`context`] | the context that it shares with this library |
//!
//! cuBLASLt gets what its users would give it: 32 MiB of workspace, every algorithm that its heuristics offer
//! (up to 32, timed on these operands), f16 operands with f32 sums, and an adapter that is padded with zeros to
//! a multiple of 8 once, since rows of 16 bytes are what its f16 kernels want. Padding is no useful work, and
//! is not counted as such.

pub mod context;
pub mod cublaslt;
pub mod fastest;
pub mod library;
pub mod matmul;
pub mod product;
pub mod steps;
#[cfg(test)]
mod testing;
pub mod weights;

use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora_benches::cuda::Gpu;
use fused_lora_benches::linear::Library;
use fused_lora_benches::linear::cpu::theirs;
use fused_lora_benches::linear::cuda::{Ground, this_library};

pub use cublaslt::CublasLt;
pub use library::Missing;

/// All that run in `gpu_peers`, this library first. Says which version of cuBLASLt there is, or why it is left out.
///
/// # Errors
///
/// If the device fails. That cuBLASLt is not there is none.
pub fn libraries(gpu: &Gpu) -> anyhow::Result<Vec<Library<Ground>>> {
    let ours =
        |rank| -> &'static [Strategy] { if rank == 0 { &[] } else { &[Strategy::Fused, Strategy::Unfused] } };
    let mut libraries = vec![this_library("fused-lora/", ours)];
    match CublasLt::new(gpu)? {
        Ok(cublaslt) => {
            eprintln!("cublasLt: version {}", cublaslt.version());
            let cublaslt = Rc::new(cublaslt);
            libraries.push(Library {
                name: Box::new(|strategy| cublaslt::name(strategy).to_owned()),
                strategies: theirs,
                make: Box::new(move |ground, strategy, rank| cublaslt.method(ground, strategy, rank)),
            });
        }
        Err(missing) => eprintln!("cublasLt: {missing}, skipped"),
    }
    Ok(libraries)
}

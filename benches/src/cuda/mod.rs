//! What is timed on a GPU: a CUDA graph of many forward passes, by the device's own clock.
//!
//! | module | job |
//! |---|---|
//! | [`gpu`] | the device, what it says of itself, and its context and stream, made by `cust` |
//! | [`clock`] | its clock under load |
//! | [`operands`] | x and y in device memory |
//! | `graph` | a graph, captured and launched through `cust` |
//! | [`captured`] | a method as a graph, between two events, and how many passes it holds |
//! | `executor` | how the suites' methods are made ready on it |
//! | `left_out` | methods that no kernel is left for |
//! | `overhead` | what a graph costs besides its kernels |
//!
//! A call is one launch of a graph that goes round the whole ring of buffers: whichever method comes next,
//! the buffers that it begins with are those touched longest ago.

pub mod captured;
pub mod clock;
mod executor;
pub mod gpu;
mod graph;
pub(crate) mod left_out;
pub mod operands;
mod overhead;

// Its functions are those that `cust` links.
use fused_lora_libcuda as _;

pub use captured::passes;
pub use gpu::Gpu;
pub use operands::Operands;

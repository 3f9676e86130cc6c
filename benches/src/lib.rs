//! The harness of the benches.
//!
//! The rounds and what they are made of are `fused_lora_measure`, which the command `fused-lora bench` uses as
//! well; its modules stand here under their own names. This crate has what is measured ([`linear`], [`layer`]
//! on the [`processor`] and on a GPU), and what becomes of it: times and ratios become [`records`], and
//! Criterion gets the times ([`criterion_share`]).
//!
//! | to add | is an entry in |
//! |---|---|
//! | a method of the linear layers | the [`linear::Library`] list of a bench, or the strategies of one |
//! | a method of PyTorch's | `METHODS` in `benches/peers/torch_linears.py`, or in `torch_layer.py` |
//! | a method of the layer | `fused_lora_transformer::Method`, which [`layer::methods`] lists |
//! | a workload | `fused_lora_records::Workload` |
//! | a backend | [`target::Target`]; its operands and its methods: [`executor`] |
//! | a limit of the machine | [`method::Probe`] and [`probes`] |
//! | an element type | [`number`] |
//!
//! | module | job |
//! |---|---|
//! | [`session`] | a bench's `main`: settings, Criterion's arguments, the run, what is said at the end |
//! | [`settings`], [`arguments`] | what is asked for: the environment, and Criterion's flags |
//! | [`target`], [`machine`], [`revision`] | what is measured |
//! | [`linear`], [`layer`], [`executor`], [`processor`], [`cuda`] | the suites, and their backends |
//! | [`torch`] | PyTorch, as a process that computes when it is told to |
//! | [`run`], [`markdown`] | the file of records, and whether it can be resumed; tables |

#![warn(missing_docs)]

pub use fused_lora_measure::{
    check, machine, measure, method, normals, number, operands, outcome, plan, probes, rounds, samples,
    stats, time, with_number,
};

pub mod arguments;
pub mod criterion_share;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
pub mod executor;
pub mod layer;
pub mod linear;
pub mod markdown;
pub mod processor;
pub mod records;
pub mod revision;
pub mod run;
pub mod session;
pub mod settings;
pub mod size;
pub mod target;
#[cfg(test)]
mod testing;
pub mod torch;

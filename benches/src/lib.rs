//! The harness of the benches.
//!
//! A [`method::Suite`] is a workload on a backend: it lists its [methods](method::Method) and makes them
//! ready. Everything else is the same for all of them. Each size of the grid is measured in *rounds* of all
//! its methods ([`rounds`]), every call on operands that have left the caches ([`method::slots_apart`]),
//! after its y was compared with the reference ([`check`]). Every size gets a least number of rounds before
//! any gets more ([`plan`], [`measure`]); rounds that other processes disturbed are repeated, and left out
//! ([`samples`]). Times and ratios become [`records`], and Criterion gets the times ([`criterion_share`]).
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
//! | [`number`], [`normals`], [`operands`] | element types; operands that have left the caches |
//! | [`probes`] | the machine's limits |
//! | [`outcome`], [`time`], [`stats`] | one size and what was seen of it; medians and intervals |
//! | [`run`], [`markdown`] | the file of records, and whether it can be resumed; tables |

#![warn(missing_docs)]

pub mod arguments;
pub mod check;
pub mod criterion_share;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
pub mod executor;
pub mod layer;
pub mod linear;
pub mod machine;
pub mod markdown;
pub mod measure;
pub mod method;
pub mod normals;
pub mod number;
pub mod operands;
pub mod outcome;
pub mod plan;
pub mod probes;
pub mod processor;
pub mod records;
pub mod revision;
pub mod rounds;
pub mod run;
pub mod samples;
pub mod session;
pub mod settings;
pub mod size;
pub mod stats;
pub mod target;
#[cfg(test)]
mod testing;
pub mod time;
pub mod torch;

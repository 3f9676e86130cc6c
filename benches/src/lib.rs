//! The harness of the benches: what all of them need to measure a grid of cells on interleaved rounds, check
//! what is measured, keep to a budget of time, and write records.
//!
//! | module | job |
//! |---|---|
//! | [`settings`], [`arguments`] | what is asked for: the environment, and Criterion's flags |
//! | [`target`], [`machine`], [`host`], [`revision`], [`fingerprint`] | what is measured, and whether a run can be resumed |
//! | [`engine`], [`cpu`], `cuda` | what a backend has to offer, and those there are |
//! | [`normals`], [`model`], [`tokens`], [`ring`], [`stage`] | operands, in buffers that have left the caches |
//! | [`method`], [`peers`], `gpu_peers`, [`peak`] | what is timed |
//! | [`check`] | whether it computes what it should |
//! | [`lineup`], [`on_host`], [`calls`], [`stats`], [`records`] | rounds, which of them count, and what becomes of them |
//! | [`ids`], [`budget`] | which ids there are, and how long each may take |
//! | [`progress`], [`run`], [`table`] | what a person sees, and the file of records |
//! | [`session`] | all of it around Criterion |
//! | [`layer`] | what of it is other for a transformer's layer: rounds of 14, a budget by size, PyTorch |

#![warn(missing_docs)]

pub mod arguments;
pub mod budget;
pub mod calls;
pub mod check;
pub mod cpu;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod cuda;
pub mod engine;
pub mod fingerprint;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod gpu_peers;
pub mod host;
pub mod ids;
pub mod layer;
pub mod lineup;
pub mod machine;
pub mod method;
pub mod model;
pub mod normals;
pub mod on_host;
pub mod peak;
pub mod peers;
pub mod progress;
pub mod records;
pub mod revision;
pub mod ring;
pub mod run;
pub mod session;
pub mod settings;
pub mod stage;
pub mod stats;
pub mod table;
pub mod target;
pub mod tokens;

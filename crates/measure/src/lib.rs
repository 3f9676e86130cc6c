//! How the benches and the command `fused-lora bench` measure.
//!
//! A [`method::Suite`] is a workload on a backend: it lists its [methods](method::Method) and makes them
//! ready. Everything else is the same for all of them. Each size is measured in *rounds* of all its methods
//! ([`rounds`]), every call on operands that have left the caches ([`method::slots_apart`]), after its y was
//! compared with the reference ([`expected`], [`check`]). Every size gets a least number of rounds before any
//! gets more ([`plan`], [`measure`]); rounds that other processes disturbed are repeated, and left out
//! ([`samples`]).
//!
//! | module | job |
//! |---|---|
//! | [`method`], [`size`], [`variant`] | what is timed |
//! | [`machine`], [`probes`] | what it is timed on, and that machine's limits |
//! | [`number`], [`normals`], [`operands`] | element types; operands that have left the caches |
//! | [`outcome`], [`time`], [`stats`] | one size and what was seen of it; medians and intervals |

#![warn(missing_docs)]

pub mod check;
pub mod expected;
pub mod machine;
pub mod measure;
pub mod method;
pub mod normals;
pub mod number;
pub mod operands;
pub mod outcome;
pub mod plan;
pub mod probes;
pub mod rounds;
pub mod samples;
pub mod size;
pub mod stats;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod variant;

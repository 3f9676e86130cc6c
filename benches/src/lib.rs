//! The harness of the benches: what both of them need to measure a grid of cells on interleaved rounds, check
//! what is measured, keep to a budget of time, and write records.
//!
//! | module | job |
//! |---|---|
//! | [`settings`], [`arguments`] | what is asked for: the environment, and Criterion's flags |
//! | [`host`], [`revision`], [`fingerprint`] | what is measured, and whether a run can be resumed |
//! | [`normals`], [`model`], [`tokens`], [`ring`], [`stage`] | operands, in buffers that have left the caches |
//! | [`method`], [`peers`], [`peak`] | what is timed |
//! | [`check`] | whether it computes what it should |
//! | [`lineup`], [`calls`], [`stats`], [`records`] | rounds, which of them count, and what becomes of them |
//! | [`ids`], [`budget`] | which ids there are, and how long each may take |
//! | [`progress`], [`run`], [`table`] | what a person sees, and the file of records |
//! | [`session`] | all of it around Criterion |

#![warn(missing_docs)]

pub mod arguments;
pub mod budget;
pub mod calls;
pub mod check;
pub mod fingerprint;
pub mod host;
pub mod ids;
pub mod lineup;
pub mod method;
pub mod model;
pub mod normals;
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
pub mod tokens;

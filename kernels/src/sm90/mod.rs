//! The kernels for compute capability 9.0: `wgmma`, tensor copies, `mbarrier`, clusters.
//!
//! | file | job |
//! |---|---|
//! | `gemm.rs`, `gemm_split_k.rs` | the base product; the same where tiles are few and K is long |
//! | `fused_cooperative.rs` | base, shrink and expand in one launch, h made together by a cluster |
//! | `fused.rs` | the same, h shared between all CTAs by way of the workspace |
//! | `cta.rs` | the life of a CTA: its barriers, its roles, its end |
//! | `producer.rs` | the thread that starts all copies |
//! | `consumer.rs` | a warpgroup that multiplies |
//! | `cluster.rs` | the cluster that a CTA runs in |
//! | `ring.rs` | which CTAs copy to each other's slots, and release them |
//! | `slices.rs` | which steps of K a CTA of a cluster multiplies by A |
//! | `own_h.rs`, `sliced_h.rs`, `h_tile.rs` | h on its way to the cluster, whole or as sums; to the workspace |
//! | `store.rs`, `epilogue.rs` | y on its way to global memory; bias, activation and residuals |
//! | `lane.rs` | where a thread finds its part of a box of y |
//! | `board.rs` | what the producer tells the consumers of a work item |
//! | `barriers.rs` | the barriers, and waiting at them |
//! | `schedule.rs` | which tiles a cluster takes; for `fused` see [`sm80`](crate::sm80) |
//!
//! Sizes, and the layout of shared memory, are in [`sm90_tile`](crate::sm90_tile). `README.md` beside this
//! file has the arithmetic, and what each step should gain.

mod barriers;
mod board;
mod cluster;
mod consumer;
mod cta;
mod epilogue;
mod fused;
mod fused_cooperative;
mod gemm;
mod gemm_split_k;
mod h_tile;
mod lane;
mod own_h;
mod producer;
mod ring;
mod schedule;
mod sliced_h;
mod slices;
mod store;

use crate::sm90_tile as tile;

pub use self::{fused::fused, fused_cooperative::fused_cooperative, gemm::gemm, gemm_split_k::gemm_split_k};

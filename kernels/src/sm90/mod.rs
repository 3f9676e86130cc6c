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
//! | `own_h.rs`, `h_tile.rs` | h on its way to the cluster; to the workspace |
//! | `store.rs`, `epilogue.rs` | y on its way to global memory; bias, activation and residuals |
//! | `board.rs` | what the producer tells the consumers of a work item |
//! | `barriers.rs` | the barriers, and waiting at them |
//! | `schedule.rs` | which tiles a cluster takes; those of `fused` are in [`sm80`](crate::sm80), with the tables |
//! | `tile.rs` | sizes, and the layout of shared memory |
//!
//! `README.md` beside this file has the arithmetic, and what each step should gain.

#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod barriers;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod board;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod cluster;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod consumer;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod cta;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod epilogue;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod fused;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod fused_cooperative;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod gemm;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod gemm_split_k;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod h_tile;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod own_h;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod producer;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod ring;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod schedule;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod store;
pub mod tile;

#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
pub use self::{fused::fused, fused_cooperative::fused_cooperative, gemm::gemm, gemm_split_k::gemm_split_k};

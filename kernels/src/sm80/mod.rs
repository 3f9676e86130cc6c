//! The kernels for compute capability 8.0 and up: `cp.async`, `ldmatrix`, `mma.sync`.
//!
//! | file | job |
//! |---|---|
//! | `gemm.rs` | the base product |
//! | `fused.rs` | base, shrink and expand in one launch, h shared between CTAs |
//! | `fused_recompute.rs` | the same, every CTA makes its own h |
//! | `shrink.rs`, `expand.rs` | the second and third launch of `unfused` |
//! | `layer_norm.rs`, `attention/` | what else a transformer layer has |
//! | `output_tile.rs`, `h_tile.rs` | one work item: a tile of y, a tile of h |
//! | `mainloop.rs` | the K loop of all of them |
//! | `copy.rs`, `swizzle.rs` | tiles on their way to shared memory, and how they lie there |
//! | `fragments.rs` | from there to registers, and the products |
//! | `chunks.rs` | eight elements of a row that may lie anywhere |
//! | `store.rs` | from registers to global memory in whole rows |
//! | `epilogue.rs` | bias, activation and residuals on the way |
//! | `segments.rs` | which adapters a row tile needs |
//! | `board.rs` | what one thread tells the others |
//! | `schedule.rs`, `hand_over.rs` | which work item is next, and what it waits for |
//!
//! # What it should take
//!
//! A step of 32 on a tile of 128 × 128 is 64 `mma` a warp, 524,288 multiply-adds. On an A100 (1,024 a cycle
//! and SM, published peak) that is 512 cycles, in which the CTA copies 16 KiB, 32 bytes a cycle, of some 64
//! that L2 gives an SM. A tile of 64 × 64 asks for 64 bytes a cycle: it is bound by L2, and chosen for the
//! number of its CTAs alone. The loop has 64 `HMMA` and some 80 other instructions a warp and step (SASS for
//! 8.0), a quarter of the issue slots.
//!
//! No step below has been measured; the numbers are what to expect, and the order in which to try them when
//! there is a GPU.
//!
//! - ring of 4 slots instead of 2: 1 to 2 steps cover L2's latency of some 600 cycles: up to 2 × where one
//!   CTA is resident;
//! - h ready in time: the ring runs on (`mainloop.rs`): saves one way to L2 a tile of y, 0.5 to 1 µs of 8 µs
//!   at K = 1024;
//! - ticket drawn one item early (`schedule.rs`): saves one atomic a tile, about 0.7 µs, less what the other
//!   CTA of the SM hides;
//! - groups of 16 row tiles: x stays in L2 between h and y: 1 to 6 % at M ≥ 8192, K = 4096;
//! - only half a step for r = 10: 16 columns less: 1.6 % at K = 1024;
//! - fragments of the next step before its barrier's other half: hides `ldmatrix`, about 4 % where one CTA is
//!   resident.
//!
//! Not built:
//!
//! - decoding the next ticket during the K loop: 200 to 300 cycles of the leader a tile: at most 1.5 % at K =
//!   1024.

mod attention;
mod board;
mod chunks;
mod copy;
pub(crate) mod epilogue;
mod expand;
mod fragments;
mod fused;
mod fused_recompute;
mod gemm;
mod h_tile;
pub(crate) mod hand_over;
mod layer_norm;
mod mainloop;
pub(crate) mod output_tile;
pub(crate) mod schedule;
pub(crate) mod segments;
mod shrink;
pub(crate) mod store;
pub(crate) mod swizzle;

pub use self::{
    attention::attention, expand::expand, fused::fused, fused_recompute::fused_recompute, gemm::gemm,
    layer_norm::layer_norm, shrink::shrink,
};

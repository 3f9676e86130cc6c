//! The operation on this machine's processor.
//!
//! A [`Layer`] packs W once, an [`Adapter`] packs A and B once; a [`Call`] then makes one pass over x and y.
//! A block of rows of x is widened and packed, its h is computed while it is in cache, and the K loop of
//! every output tile continues for r more steps. [`Epilogue`](crate::Epilogue) and
//! [`Residual`](crate::Residual) are applied to a tile's f32 sums before they are stored in y.
//!
//! [`CausalAttention`] is not part of the operation; it is here because it uses the same micro-kernels.
//!
//! # Types
//!
//! x, W and y are f16, bf16 or f32, an adapter is of the same type or f32; sums are always f32. Which SIMD
//! level serves which type, [`Simd::serving`] says.
//!
//! # Threads
//!
//! Work is shared by the threads of the current [rayon] pool ([`Rayon`]), or by others ([`Call::on`],
//! [`Executor`]). A small product (2¹⁹ multiply-adds) runs on the calling thread alone. While a thread of a
//! pool waits for the others to finish a call it may run other jobs of that pool, as always with rayon: do
//! not hold a lock across a call that such a job may take.
//!
//! # Memory
//!
//! A call works in the caller's [`Workspace`] and allocates only when the workspace has to grow. When it is
//! called from outside the pool, rayon's queue allocates a block about once in sixty calls; from inside the
//! pool nothing is allocated.

mod adapter;
mod attention;
mod blocks;
mod buffer;
mod call;
mod detect;
mod executor;
mod hidden;
mod kernel;
mod layer;
mod loras;
mod operands;
mod panels;
mod parallel;
mod product;
mod segments;
pub(crate) mod simd;
mod sweep;
mod table;
mod together;
mod view;
mod workspace;

pub use adapter::Adapter;
pub use attention::CausalAttention;
pub use call::Call;
pub use executor::{Executor, Rayon, Serial};
pub(crate) use kernel::levels::Compute;
pub use layer::Layer;
pub use segments::Segments;
pub use simd::{SIMD_VARIABLE, Simd};
pub use table::AdapterTable;
pub use workspace::Workspace;

pub use crate::TableEntry;

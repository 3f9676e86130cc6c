//! The operation on this machine's processor.
//!
//! A [`Layer`] packs W once, an [`Adapter`] packs A and B once; [`Layer::forward`] then makes one pass over x
//! and y. A block of rows of x is widened and packed, its h is made while it is in cache, and the K loop of
//! every output tile runs on over r more steps.
//!
//! Work is shared by the threads of the current [rayon] pool.

mod adapter;
mod blocks;
mod buffer;
mod by_columns;
mod by_rows;
mod kernel;
mod layer;
mod panels;
mod parallel;
mod product;
pub(crate) mod simd;
mod sweep;
mod view;
mod workspace;

pub use adapter::Adapter;
pub use layer::Layer;
pub use simd::{SIMD_VARIABLE, Simd};
pub use workspace::Workspace;

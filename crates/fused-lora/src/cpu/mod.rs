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
//! # Many adapters
//!
//! A batch may mix adapters: an [`AdapterTable`] holds them, [`Segments`] say which rows use which. W is read
//! once, x and y are passed once, and each adapter costs what its own rows and rank cost.
//!
//! ```
//! use fused_lora::cpu::{AdapterTable, Layer, Segments, TableEntry, Workspace};
//! use half::f16;
//! use ndarray::Array2;
//!
//! # fn main() -> Result<(), fused_lora::Error> {
//! let (n, k) = (64, 32);
//! let one = |rows, columns| Array2::from_elem((rows, columns), f16::ONE);
//! let layer = Layer::new(one(n, k).view())?;
//! let (a, b) = (one(4, k), one(n, 4));
//! let entry = |scale| TableEntry { a: a.view(), b: b.view(), scale, columns: 0..n };
//! let table = AdapterTable::new(k, n, &[entry(1.0), entry(2.0)])?;
//! // Tokens 0 and 1 use the second adapter, token 4 the first, the others none.
//! let segments = Segments::new(&table, 5, &[(0..2, Some(1)), (4..5, Some(0))])?;
//! let (x, mut y) = (one(5, k), Array2::zeros((5, n)));
//! layer.call(x.view()).segments(&segments).run(y.view_mut(), &mut Workspace::new())?;
//! // base: 32; adapters: 1.0 · 32 · 4 and 2.0 · 32 · 4
//! assert_eq!([0, 1, 2, 3, 4].map(|row| y[[row, 7]].to_f32()), [288.0, 288.0, 32.0, 32.0, 160.0]);
//! # Ok(())
//! # }
//! ```
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
mod concrete;
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

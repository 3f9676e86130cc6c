//! A linear layer with an un-merged LoRA adapter, computed in one pass.
//!
//! ```text
//! h = round( s · x Aᵀ )            x: [M, K]   W: [N, K]   A: [r, K]   B: [N, r]
//! y = round( x Wᵀ + h Bᵀ + bias )  h: [M, r]   y: [M, N]
//! ```
//!
//! These are three products: the *base* product `x Wᵀ`, the *shrink* `x Aᵀ` and the *expand* `h Bᵀ`. Here
//! they are one pass, `y = [x | h] · [W | B]ᵀ`: the expand is r more steps of the base product's K loop, into
//! the same f32 sums. What remains of the adapter's cost is its arithmetic, `r/N + r/K` of the base product
//! ([`Problem::floor_pct`]).
//!
//! Storage is f16, on a CPU also bf16 or f32; every sum is f32, and h is rounded once at most, with the scale s
//! in it: to f16 on a GPU, to bf16 where a CPU multiplies bf16.
//!
//! - [`cpu`] computes on this machine's processor; `cuda` on an NVIDIA GPU (feature `cuda`, Linux).
//! - [`peft`] reads adapters as Hugging Face PEFT saves them.
//! - [`mod@reference`] computes the same in f64, with an error bound for each element.
//!
//! ```
//! use fused_lora::cpu::{Adapter, Layer, Workspace};
//! use half::f16;
//! use ndarray::Array2;
//!
//! # fn main() -> Result<(), fused_lora::Error> {
//! let (m, n, k, rank) = (4, 64, 32, 8);
//! let w = Array2::from_shape_fn((n, k), |(i, j)| f16::from_f32((i + 2 * j) as f32 / 256.0));
//! let a = Array2::from_elem((rank, k), f16::from_f32(0.125));
//! let b = Array2::from_elem((n, rank), f16::from_f32(0.25));
//! let x = Array2::from_elem((m, k), f16::ONE);
//! let mut y = Array2::zeros((m, n));
//!
//! let layer = Layer::new(w.view())?.with_adapter(Adapter::new(a.view(), b.view(), 2.0)?)?;
//! layer.call(x.view()).run(y.view_mut(), &mut Workspace::new())?;
//!
//! // base: Σ_j 2j / 256 = 3.875;  adapter: 2.0 · (32 · 0.125) · (8 · 0.25) = 16
//! assert_eq!(y[[0, 0]].to_f32(), 19.875);
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

pub mod cpu;
#[cfg(gpu)]
pub mod cuda;
mod element;
mod epilogue;
mod error;
mod finite;
pub mod peft;
#[cfg(feature = "cuda")]
#[cfg_attr(not(gpu), allow(dead_code, unused_imports, reason = "only `cuda` uses all of it"))]
pub mod plan;
mod problem;
pub mod reference;
mod shape;
mod table_entry;

pub use element::{AdapterElement, Element};
pub use epilogue::{Activation, Epilogue, Residual};
pub use error::{Error, Operand};
pub use finite::check_finite;
pub use problem::{DType, Granule, Problem, Strategy, UnknownDType, UnknownStrategy};
pub use table_entry::TableEntry;

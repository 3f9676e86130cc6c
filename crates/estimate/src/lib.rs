//! What the cost model expects of the benches' grid on a GPU, which need not be there: estimates, never
//! measurements.
//!
//! The cost model is that of [`fused_lora::plan`], which picks kernels; nothing in it was fitted to a
//! measurement. It has two [sets](Set) of constants. An [`Estimate`] is one cell of the grid by both, for one
//! workload; [`text`] and [`csv`] print them, `heatmap --estimate` draws them, and [`Standing`] counts what
//! reaches the goals. No type of a measurement is made here.

#![warn(missing_docs)]

mod cell;
mod model;
mod set;
mod standing;
mod table;

pub use cell::{Estimate, LABEL};
pub use model::{data_sheets, estimate, gpu_words};
pub use set::Set;
pub use standing::Standing;
pub use table::{csv, text};

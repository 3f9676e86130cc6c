//! The instructions that every GPU from compute capability 8.0 on has.

#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod approx;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod barrier;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod convert;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod cp_async;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod global;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod matrix;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod shared;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod shuffle;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod strong;
pub mod table;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod thread;

pub use table::{INSTRUCTIONS, Instruction};

//! The instructions that compute capability 9.0 has beside those of [`sm80`](crate::instructions).
//!
//! An item is still that of a CTA. CTAs of a cluster have neighbouring items, and a launch has items for whole clusters.

#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod bulk;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod cluster;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod dependent;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod matrix;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod mbarrier;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod proxy;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod registers;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod staging;
pub mod table;
#[cfg(any(target_arch = "nvptx64", feature = "simt"))]
mod wgmma;

use super::Params;
use crate::tensor_map::TensorMap;

pub use table::{SM90_INSTRUCTIONS, Sm90Instruction};

/// What a launch of any of these entries gets. The address of the map must be a multiple of 64 in the memory of
/// parameters, as for [`TensorParams`](crate::tensor_map::TensorParams).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Sm90Params {
    /// For those that copy boxes, else none: a matrix of f16 that all items share.
    pub map: TensorMap,
    /// As for any instruction.
    pub params: Params,
}

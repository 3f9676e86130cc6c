//! The instructions that compute capability 9.0 has beside those of [`sm80`](crate::instructions).
//!
//! An item is still that of a CTA. CTAs of a cluster have neighbouring items, and a launch has items for
//! whole clusters.

pub(super) mod bulk;
pub(super) mod cluster;
pub(super) mod dependent;
pub(super) mod elect;
pub(super) mod matrix;
pub(super) mod mbarrier;
pub(super) mod proxy;
pub(super) mod registers;
mod staging;
pub(super) mod wgmma;

//! A GPU as an engine: what is timed is a CUDA graph of many forward passes, by the device's own clock.
//!
//! | module | job |
//! |---|---|
//! | [`gpu`] | the device, and what it says of itself |
//! | [`clock`] | its clock under load |
//! | [`span`] | how many buffers rotate, and how many passes a graph holds |
//! | [`operands`] | x and y in device memory |
//! | [`captured`] | a strategy as a graph |
//! | [`bed`] | the rig: a ring of them, and events around each call |
//! | [`overhead`] | what a graph costs besides its kernels |
//!
//! A call is one launch of a graph that goes round the whole ring of buffers, so that two methods may share
//! the ring: whichever comes next, the buffers that it begins with are those touched longest ago.

pub mod bed;
pub mod captured;
pub mod clock;
pub mod gpu;
pub mod operands;
pub mod overhead;
pub mod span;

pub use bed::{Bed, Ground};
pub use captured::{Captured, Replay};
pub use gpu::Gpu;
pub use overhead::Overhead;
pub use span::Span;

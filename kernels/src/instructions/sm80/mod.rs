//! The instructions that every GPU from compute capability 8.0 on has.

pub(super) mod approx;
pub(super) mod barrier;
pub(super) mod convert;
pub(super) mod cp_async;
pub(super) mod global;
pub(super) mod matrix;
pub(super) mod shared;
pub(super) mod shuffle;
pub(super) mod strong;
pub(super) mod thread;

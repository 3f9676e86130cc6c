//! What each instruction does, for the current lane of a [`Run`](crate::run::Run).

mod access;
mod barrier;
mod bulk;
pub(crate) mod cluster;
mod collective;
mod copies;
mod deadlock;
mod dependent;
mod mbarrier;
pub(crate) mod memory;
pub(crate) mod poll;
mod registers;
mod transfer;
pub(crate) mod warp;
pub(crate) mod wgmma;

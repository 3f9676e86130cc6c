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
mod poll;
mod registers;
mod transfer;
mod warp;
mod wgmma;

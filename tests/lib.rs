//! Tests that cross libraries: the files beside this one. Those of one library live with it.

pub mod functions;
pub mod plans;
pub mod shipped;

/// The strict machine makes and drops small vectors for each lane.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// README's example, as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

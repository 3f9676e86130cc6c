//! Tests that cross libraries: the files beside this one. Those of one library live with it.

pub mod functions;
pub mod plans;
pub mod shipped;

/// README's example, as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

//! Other libraries as methods of the harness: each is one entry in the list of a bench.

#![warn(missing_docs)]

pub mod cpu;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod gpu;
pub mod table;
mod weights;

//! Compiles a crate of GPU kernels to PTX with rustc's own target `nvptx64-nvidia-cuda`, and reads off what
//! ptxas makes of them.
//!
//! [`CudaBuilder`] has the shape of rust-cuda's; the command `cargo run -p cuda-builder` applies it to this
//! workspace's `kernels/`. The road, with the module of each step:
//!
//! | step | module | what it does |
//! |---|---|---|
//! | toolchain | `toolchain` | finds a compiler with unstable features and the source of its library |
//! | table | `workspace` | the modules of `kernels/`, and what their tables demand of each entry (`spec`) |
//! | hash | `source_hash` | one number for sources, flags and post-processing: tells stale PTX anywhere |
//! | compile | `compile` | cargo and rustc: `core` from source, fat LTO, assembly instead of an object |
//! | finish | `ptx` | comments and debug information go; launch bounds and alignment of tensor maps come |
//! | | | in; leftover functions and local memory are refused |
//! | header | `header` | says what made the PTX |
//! | lines | `lines` | the Rust lines, inlined callers among them, that each line of PTX came from |
//! | assemble | `ptxas`, `sass` | registers, spills, stack; instructions and loops in the machine code |
//! | judge | `check`, `report` | faults of a build, and a table for people |
//!
//! # The same bytes everywhere
//!
//! The same compiler makes the same PTX of the same sources in any folder and any target folder: no paths and
//! lines get in ([`RUSTC_FLAGS`]), the profile is fixed, flags and wrappers of the surroundings are shut out.
//! Another version of rustc *or LLVM* makes other PTX, so a header names both, and [`compare`] compares bytes
//! only if they are the same.
//!
//! Errors are `anyhow`'s and faults are sentences: people read them, and no program tells them apart.

#![deny(missing_docs)]

mod arch;
mod builder;
mod check;
mod compile;
mod header;
mod lines;
mod process;
mod ptx;
mod ptxas;
mod report;
mod sass;
mod source_hash;
mod spec;
mod toolchain;
mod workspace;

pub use arch::Arch;
pub use builder::{CudaBuilder, Ptx};
pub use check::{REBUILD, compare, inspect};
pub use compile::{RUSTC_FLAGS, TARGET};
pub use header::Header;
pub use ptx::{directives, leftovers};
pub use ptxas::{Assembled, Cubin, PTXAS_VARIABLE, Tools};
pub use report::{Section, report};
pub use sass::{Code, Step};
pub use spec::{KernelSpec, Product};
pub use toolchain::{PINNED_NIGHTLY, TOOLCHAIN_VARIABLE};
pub use workspace::{Module, Workspace};

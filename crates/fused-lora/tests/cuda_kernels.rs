//! One kernel in clusters of one size on a device, against the f64 reference: for a process each, so that a
//! kernel that hangs or breaks the context costs no other one.
//!
//! ```text
//! cuda_kernels --list                   # all that this device runs; it loads, and so compiles, all of them
//! cuda_kernels sm90_gemm_128x256/2 ...  # these, in this order, up to the first that is wrong
//! ```
//!
//! Without names nothing runs: on a simulated driver all of them take many minutes. `cuda_forward` runs every
//! kernel at small sizes.

#[cfg(gpu)]
#[path = "cuda_kernels/check.rs"]
mod check;

fn main() {
    #[cfg(gpu)]
    check::main();
}

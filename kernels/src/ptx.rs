//! The compiled kernels, as `cuda-builder` left them in `kernels/ptx/`.

/// PTX for compute capability 8.0 and up; the driver compiles it for its GPU.
pub const SM80: &str = include_str!("../ptx/sm_80.ptx");

/// The entries of [`instructions`](crate::instructions), for the same GPUs.
pub const SM80_INSTRUCTIONS: &str = include_str!("../ptx/sm_80_instructions.ptx");

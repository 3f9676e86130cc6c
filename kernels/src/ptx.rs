//! The compiled kernels, as `cuda-builder` left them in `kernels/ptx/`.

/// PTX for compute capability 8.0 and up; the driver compiles it for its GPU.
pub const SM80: &str = include_str!("../ptx/sm_80.ptx");

/// PTX for compute capability 9.0 alone, for drivers of CUDA 12.0 and later.
pub const SM90A: &str = include_str!("../ptx/sm_90a.ptx");

/// The entries of [`INSTRUCTIONS`](crate::instructions::INSTRUCTIONS), for the same GPUs as [`SM80`].
pub const SM80_INSTRUCTIONS: &str = include_str!("../ptx/sm_80_instructions.ptx");

/// The entries of [`SM90_INSTRUCTIONS`](crate::instructions::SM90_INSTRUCTIONS), for the same GPUs as
/// [`SM90A`].
pub const SM90A_INSTRUCTIONS: &str = include_str!("../ptx/sm_90a_instructions.ptx");

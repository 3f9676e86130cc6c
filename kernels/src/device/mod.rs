//! One thin entry for each PTX instruction, with two bodies: inline PTX on `nvptx64`, a call into the strict
//! machine `fused-lora-simt` elsewhere. Kernels are written on these alone, so that what is tested on a CPU
//! is their own source. Nothing outside this module dereferences a pointer or writes `asm!`.
//!
//! Entries carry the names of their instructions. Section numbers are those of the *PTX ISA* manual, version
//! 9.0.

mod barrier;
mod convert;
mod cp_async;
mod global;
mod ldmatrix;
mod mma;
mod shared;
mod tap;
mod thread;

pub use barrier::{bar_sync, bar_warp_sync};
pub use convert::{f16_to_f32, pack_f16x2};
pub use cp_async::{cp_async_16, cp_async_commit_group, cp_async_wait_group};
pub use ldmatrix::ldmatrix_x4;
pub use mma::mma_m16n8k16_f16;
pub use shared::{SharedAddr, dynamic_shared};
pub use tap::tap;
pub use thread::{block_dim_x, block_idx_x, grid_dim_x, opaque, thread_idx_x};

/// Defines an instruction: its documentation, its signature, the PTX body and the host body.
///
/// `#[track_caller]` lets a report of the strict machine name the line of the kernel.
macro_rules! instruction {
    ($(#[$attr:meta])* $vis:vis unsafe fn $name:ident $(<const $g:ident: $gt:ty>)? ($($args:tt)*) $(-> $ret:ty)? {
        ptx: $ptx:expr,
        host: $host:expr $(,)?
    }) => {
        $(#[$attr])*
        #[inline(always)]
        #[cfg_attr(not(target_arch = "nvptx64"), track_caller)]
        $vis unsafe fn $name $(<const $g: $gt>)? ($($args)*) $(-> $ret)? {
            #[cfg(target_arch = "nvptx64")]
            // SAFETY: the caller keeps the contract of `# Safety`, which is the manual's.
            unsafe { $ptx }
            #[cfg(not(target_arch = "nvptx64"))]
            { $host }
        }
    };
}
use instruction;

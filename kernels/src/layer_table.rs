//! The kernels of a transformer layer that are no products: what a launcher must know of each, and the
//! entries.
//!
//! They are compiled for compute capability 8.0 and run on everything later, Hopper among it.

#[cfg(any(target_arch = "nvptx64", doc))]
use crate::layer_params::{AttentionParams, LayerNormParams};
use crate::tile::{ATTENTION_BLOCK, ATTENTION_THREADS, LAYER_NORM_ROWS, WARP};

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerOperation {
    /// LayerNorm, with [`LayerNormParams`]. A grid of one CTA for each [`LAYER_NORM_ROWS`] rows.
    LayerNorm,
    /// Causal attention, with [`AttentionParams`]. A grid of one CTA for each sequence, head, and
    /// [`ATTENTION_BLOCK`] queries of it.
    Attention,
}

/// An entry.
#[derive(Clone, Copy, Debug)]
pub struct LayerKernel {
    /// Its name in the PTX.
    pub name: &'static str,
    /// What it computes.
    pub operation: LayerOperation,
    /// The largest `head_dim`: columns that a tile of q, k or v has. 0 for LayerNorm.
    pub head_dim: u32,
    /// Threads of a CTA.
    pub threads: u32,
    /// CTAs that must fit on an SM as far as registers go.
    pub min_ctas: u32,
    /// Registers a thread may have; the build fails above.
    pub max_registers: u32,
    /// Dynamic shared memory, in bytes.
    pub shared_bytes: u32,
}

impl LayerKernel {
    /// That of LayerNorm.
    #[must_use]
    pub fn layer_norm() -> &'static Self {
        const { assert!(matches!(LAYER_KERNELS[0].operation, LayerOperation::LayerNorm)) };
        &LAYER_KERNELS[0]
    }

    /// That of attention with the smallest tiles that hold heads of `head_dim` columns, a multiple of 8.
    #[must_use]
    pub fn attention(head_dim: u32) -> Option<&'static Self> {
        let holds =
            |kernel: &&Self| kernel.operation == LayerOperation::Attention && kernel.head_dim >= head_dim;
        LAYER_KERNELS.iter().find(holds).filter(|_| head_dim > 0 && head_dim.is_multiple_of(8))
    }
}

/// Two slots, each with a block of k and one of v.
const fn attention_shared(head_dim: u32) -> u32 {
    2 * 2 * ATTENTION_BLOCK * head_dim * 2
}

macro_rules! layer_kernels {
    ($($name:ident: $operation:ident, head_dim $head_dim:literal, $threads:expr, $shared:expr,
        $function:ident $(<$($argument:tt),*>)? ($params:ident),
        $registers:literal registers, $ctas:literal CTAs;)*) => {
        /// All entries: LayerNorm, then attention by `head_dim`.
        pub static LAYER_KERNELS: &[LayerKernel] = &[$(
            LayerKernel {
                name: stringify!($name),
                operation: LayerOperation::$operation,
                head_dim: $head_dim,
                threads: $threads,
                min_ctas: $ctas,
                max_registers: $registers,
                shared_bytes: $shared,
            },
        )*];

        $(
            /// Entry; see [`LAYER_KERNELS`].
            ///
            /// # Safety
            ///
            /// That of the function it names.
            #[cfg(target_arch = "nvptx64")]
            #[unsafe(no_mangle)]
            pub unsafe extern "ptx-kernel" fn $name(params: $params) {
                // SAFETY: the launcher's contract.
                unsafe { crate::sm80::$function $(::<$($argument),*>)? (params) }
            }
        )*
    };
}

// The arguments of attention: bytes of a row of a tile; fragments of 8 columns, and of 16.
layer_kernels! {
    layer_norm: LayerNorm, head_dim 0, LAYER_NORM_ROWS * WARP, 0,
        layer_norm(LayerNormParams), 64 registers, 8 CTAs;
    attention_32: Attention, head_dim 32, ATTENTION_THREADS, attention_shared(32),
        attention<64, 4, 2>(AttentionParams), 128 registers, 4 CTAs;
    attention_64: Attention, head_dim 64, ATTENTION_THREADS, attention_shared(64),
        attention<128, 8, 4>(AttentionParams), 168 registers, 3 CTAs;
    attention_128: Attention, head_dim 128, ATTENTION_THREADS, attention_shared(128),
        attention<256, 16, 8>(AttentionParams), 255 registers, 2 CTAs;
}

//! What a launch of a kernel gets that is no product: LayerNorm and attention.

use crate::Global;

/// A LayerNorm over the rows of a matrix. Strides are in elements; unit stride along columns.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct LayerNormParams {
    /// `[rows, columns]`, row stride `ldx`, anywhere. Loaded in 16 bytes where base and `ldx` allow it, else
    /// element by element.
    pub x: Global<u16>,
    /// `[rows, columns]`, row stride `ldy`, stored likewise. May be x itself, with the same stride.
    pub y: Global<u16>,
    /// `[columns]`, base a multiple of 16 bytes, readable up to the next multiple of 8.
    pub gamma: Global<u16>,
    /// `[columns]`, as gamma.
    pub beta: Global<u16>,
    /// At least 1.
    pub rows: u32,
    /// At least 1.
    pub columns: u32,
    /// Row stride of x.
    pub ldx: u32,
    /// Row stride of y.
    pub ldy: u32,
    /// 1 / `columns`.
    pub reciprocal: f32,
    /// What is added to the variance. With 0, a row of equal elements becomes NaN.
    pub epsilon: f32,
}

/// Causal self-attention of several heads over sequences of equal length. Strides are in elements; unit
/// stride along columns.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct AttentionParams {
    /// `[sequences · seq_len, 3 · heads · head_dim]`: q, k and v side by side, in each of them one head after
    /// the other. Base a multiple of 16 bytes, row stride `ld_qkv` a multiple of 8.
    pub qkv: Global<u16>,
    /// `[sequences · seq_len, heads · head_dim]`, row stride `ldy`. Stored in 16 bytes where base and `ldy`
    /// allow it, else element by element. Not part of qkv.
    pub y: Global<u16>,
    /// At least 1.
    pub sequences: u32,
    /// At least 1.
    pub seq_len: u32,
    /// At least 1.
    pub heads: u32,
    /// A multiple of 8, at most that of the kernel.
    pub head_dim: u32,
    /// Row stride of qkv.
    pub ld_qkv: u32,
    /// Row stride of y.
    pub ldy: u32,
    /// What scores are multiplied by before 2 is raised to them: log₂ e / √`head_dim`, as a rule. Above 0.
    pub scale: f32,
}

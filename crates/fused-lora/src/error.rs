use std::fmt;

use crate::cpu::simd::{SIMD_VARIABLE, Simd, list};

/// The matrices and vectors of the operation, as errors name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operand {
    /// The input, `[M, K]`.
    X,
    /// The base weight, `[N, K]`.
    W,
    /// The shrink weight, `[r, K]`.
    A,
    /// The expand weight, `[N, r]`.
    B,
    /// The bias, `[N]`.
    Bias,
    /// Queries, keys and values side by side, `[M, 3 · heads · head_dim]`.
    Qkv,
    /// The residual that is added to the output, `[M, N]`.
    Residual,
    /// The output, `[M, N]`.
    Y,
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operand::X => "x [M, K]",
            Operand::W => "W [N, K]",
            Operand::A => "A [r, K]",
            Operand::B => "B [N, r]",
            Operand::Bias => "bias [N]",
            Operand::Qkv => "qkv [M, 3 heads head_dim]",
            Operand::Residual => "residual [M, N]",
            Operand::Y => "y [M, N]",
        })
    }
}

/// Why a layer, an adapter or a call was rejected. Nothing has been computed or written.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// M, N or K is zero. (A rank of zero is allowed: only the base product is computed.)
    #[error("{operand} has shape {shape:?}: M, N and K must be at least 1")]
    ZeroSize {
        /// The operand with this shape.
        operand: Operand,
        /// The shape found.
        shape: Vec<usize>,
    },
    /// A dimension differs from the value that the other operands require.
    #[error("{operand} has {found} {axis}, expected {expected}")]
    Shape {
        /// The operand with this dimension.
        operand: Operand,
        /// `rows`, `columns` or `elements`.
        axis: &'static str,
        /// The value that the other operands require.
        expected: usize,
        /// The value found.
        found: usize,
    },
    /// The elements of a row are not adjacent in memory.
    #[error("{operand} has a column stride of {stride}: columns must have unit stride (rows may have any)")]
    ColumnStride {
        /// The operand with this stride.
        operand: Operand,
        /// The stride found, in elements.
        stride: isize,
    },
    /// Attention without heads, or heads without columns.
    #[error("attention with {heads} heads of {head_dim} columns: both must be at least 1")]
    Heads {
        /// Number of heads.
        heads: usize,
        /// Columns of a head.
        head_dim: usize,
    },
    /// The number of rows is not a multiple of the sequence length.
    #[error("{rows} rows are no whole number of sequences of {seq_len} tokens")]
    Sequences {
        /// Rows, M.
        rows: usize,
        /// Tokens of a sequence.
        seq_len: usize,
    },
    /// The adapter's scale is NaN or infinite.
    #[error("the adapter's scale is {scale}: it must be finite")]
    Scale {
        /// The scale given.
        scale: f32,
    },
    /// An executor returned before the tasks that it had started, or a task of it panicked unseen; y holds
    /// anything.
    #[error("the executor returned before all of the work was done")]
    Executor,
    /// Layer and adapter are packed for different SIMD levels.
    #[error("the adapter is packed for {adapter}, the layer for {layer}")]
    SimdMismatch {
        /// The layer's level.
        layer: Simd,
        /// The adapter's level.
        adapter: Simd,
    },
    /// This machine lacks the instructions of the requested SIMD level.
    #[error("this machine has no {simd}; it offers {}", list(available))]
    SimdUnavailable {
        /// The level requested.
        simd: Simd,
        /// The available levels.
        available: Vec<Simd>,
    },
    /// A name that is no SIMD level.
    #[error(
        "unknown SIMD level {name:?} (the environment variable {} sets it); known are {}",
        SIMD_VARIABLE,
        list(Simd::ALL)
    )]
    SimdUnknown {
        /// The name.
        name: String,
    },
}

use std::fmt;

use crate::{
    cpu::simd::{SIMD_VARIABLE, Simd, list},
    problem::DType,
};

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

/// Why a layer, an adapter or a call was rejected. Nothing has been computed or written, unless a variant says
/// otherwise.
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
    /// An adapter's column range is empty or reaches beyond y.
    #[error("the adapter adds to columns {} to {} of {out_features}", columns.0, columns.1)]
    Columns {
        /// First column and the one after the last.
        columns: (usize, usize),
        /// N
        out_features: usize,
    },
    /// Two adapters of the same rows add to the same columns.
    #[error(
        "adapters beside each other add to columns {} to {} and {} to {}: they must not overlap",
        one.0, one.1, other.0, other.1
    )]
    ColumnsOverlap {
        /// First column of one and the one after its last.
        one: (usize, usize),
        /// The other's.
        other: (usize, usize),
    },
    /// What is wrong with one entry of an adapter table.
    #[error("entry {index} of the adapter table: {source}")]
    Entry {
        /// The entry's index.
        index: usize,
        /// What is wrong.
        source: Box<Error>,
    },
    /// A slot that the adapter table neither has nor can be extended by.
    #[error("there is no slot {slot} in an adapter table of {count}")]
    Slot {
        /// The slot asked for.
        slot: usize,
        /// The number of slots.
        count: usize,
    },
    /// Adapters that are used together are of different element types.
    #[error("the adapter is {found}, those beside it are {expected}")]
    AdapterType {
        /// The others' type.
        expected: DType,
        /// The adapter's.
        found: DType,
    },
    /// A segment's rows are not rows of x, or come before the end of the segment before it.
    #[error(
        "segment {index} has rows {} to {}: they must lie in {} to {}",
        rows.0, rows.1, allowed.0, allowed.1
    )]
    SegmentRows {
        /// The segment's index.
        index: usize,
        /// First row and the one after the last.
        rows: (usize, usize),
        /// The allowed range: from the end of the previous segment to M.
        allowed: (usize, usize),
    },
    /// A segment refers to an adapter that is not in the table.
    #[error("segment {index} names adapter {adapter}, which a table of {count} does not hold")]
    SegmentAdapter {
        /// The segment's index.
        index: usize,
        /// The adapter's index.
        adapter: usize,
        /// The number of adapters in the table, with those that were taken out.
        count: usize,
    },
    /// The result of a checked call is not finite where its inputs are; y holds it.
    #[error("y[{row}, {column}] is {value} though row {row} of x is finite: {dtype} cannot hold it")]
    NotFinite {
        /// Row of y, and of x.
        row: usize,
        /// Column of the first such element in the row.
        column: usize,
        /// Infinite or NaN.
        value: f32,
        /// y's type.
        dtype: DType,
    },
    /// An executor returned before the tasks that it had started, or a task of it panicked unseen; y holds
    /// anything.
    #[error("the executor returned before all of the work was done")]
    Executor,
    /// An adapter is packed for another SIMD level than what it is used with: a layer, a table, or another
    /// adapter.
    #[error("the adapter is packed for {adapter}, what it is used with for {layer}")]
    SimdMismatch {
        /// The level of the layer, of the table, or of the other adapter.
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

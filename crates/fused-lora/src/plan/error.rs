use fused_lora_kernels::table::Operation;

use crate::Strategy;

/// Why there is no plan for a call, or why an operand cannot be what a kernel reads or writes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More than the kernels can count.
    #[error("{what}: {value} is more than {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        value: u64,
        /// How large it may be.
        limit: u64,
    },
    /// A matrix reaches beyond its buffer.
    #[error(
        "{rows} rows of {columns}, {stride} apart, from element {offset} on do not fit a buffer of {len}"
    )]
    OutOfBounds {
        /// Element of the buffer with which the matrix starts.
        offset: usize,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
        /// Elements from row to row.
        stride: usize,
        /// Elements of the buffer.
        len: usize,
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
        /// From the end of the segment before to M.
        allowed: (usize, usize),
    },
    /// A segment names an adapter that the table has not.
    #[error("segment {index} names adapter {adapter} of a table of {count}")]
    SegmentAdapter {
        /// The segment's index.
        index: usize,
        /// The adapter it names.
        adapter: usize,
        /// How many the table has.
        count: usize,
    },
    /// A matrix that is read 16 bytes at a time, and nothing else, does not lie so.
    #[error(
        "{what} starts at {address:#x} with rows {stride} elements apart: multiples of 16 bytes and of 8 elements are needed"
    )]
    Unaligned {
        /// The matrix.
        what: &'static str,
        /// Of its first element.
        address: u64,
        /// Elements from row to row.
        stride: usize,
    },
    /// No kernel is left for a part of a strategy.
    #[error("no kernel for {operation:?} of strategy {strategy} is allowed here")]
    NoKernel {
        /// The strategy.
        strategy: Strategy,
        /// The operation for which there is none.
        operation: Operation,
    },
    /// `FUSED_LORA_PLAN` names a kernel that there is not, or forces one that cannot serve this call.
    #[error("FUSED_LORA_PLAN={plan}: {reason}")]
    BadPlan {
        /// What it names.
        plan: String,
        /// Why not.
        reason: String,
    },
    /// The copy engine of compute capability 9.0 cannot address a matrix. Not for any x and y that safe
    /// functions take: what it cannot address, other kernels read and write.
    #[error("no tensor map for {operand}: {reason}")]
    TensorMap {
        /// The matrix: x, W, y, A, B or h.
        operand: &'static str,
        /// What is in the way.
        reason: Unaddressable,
    },
}

/// What the copy engine cannot address (*CUDA Driver API*, `cuTensorMapEncodeTiled`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unaddressable {
    /// Where it starts.
    #[error("its address {address:#x} is not a multiple of 16")]
    Address {
        /// Of its first element.
        address: u64,
    },
    /// How far its rows are apart.
    #[error(
        "its rows are {bytes} bytes apart, not a multiple of 16 below 2^40 that is at least a row of {row}"
    )]
    Stride {
        /// Bytes from row to row.
        bytes: u64,
        /// Bytes of a row.
        row: u64,
    },
    /// It has no elements.
    #[error("it has {rows} rows of {columns}")]
    Empty {
        /// Its rows.
        rows: u32,
        /// Its columns.
        columns: u32,
    },
    /// Any other reason, the driver's.
    #[error("the driver refuses it with {code}: {text}")]
    Refused {
        /// Its result, a `CUresult`.
        code: u32,
        /// What it says of it.
        text: String,
    },
}

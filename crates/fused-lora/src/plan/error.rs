use fused_lora_kernels::table::Operation;

use crate::Strategy;

/// Why there is no plan for a call, or why the kernels cannot read or write an operand.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A size, stride or number of work items is more than the kernels can count.
    #[error("{what}: {value} is more than {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The value found.
        value: u64,
        /// The largest value allowed.
        limit: u64,
    },
    /// A matrix reaches beyond its buffer.
    #[error(
        "{rows} rows of {columns}, {stride} apart, from element {offset} on do not fit a buffer of {len}"
    )]
    OutOfBounds {
        /// The element of the buffer at which the matrix starts.
        offset: usize,
        /// The matrix's rows.
        rows: usize,
        /// The matrix's columns.
        columns: usize,
        /// Elements from row to row.
        stride: usize,
        /// Elements of the buffer.
        len: usize,
    },
    /// A matrix that can only be read 16 bytes at a time is not aligned for it.
    #[error(
        "{what} starts at {address:#x} with rows {stride} elements apart: multiples of 16 bytes and of 8 \
         elements are needed"
    )]
    Unaligned {
        /// The matrix.
        what: &'static str,
        /// The address of its first element.
        address: u64,
        /// Elements from row to row.
        stride: usize,
    },
    /// No kernel is left for an operation of a strategy.
    #[error("no kernel for {operation:?} of strategy {strategy} is allowed here")]
    NoKernel {
        /// The strategy.
        strategy: Strategy,
        /// The operation that has no kernel.
        operation: Operation,
    },
    /// `FUSED_LORA_PLAN` names a kernel that does not exist, or requires one that cannot run this call.
    #[error("FUSED_LORA_PLAN={plan}: {reason}")]
    BadPlan {
        /// The value of `FUSED_LORA_PLAN`.
        plan: String,
        /// Why it cannot be used.
        reason: String,
    },
    /// The copy engine of compute capability 9.0 cannot address a matrix. Never for x and y that safe
    /// functions accept: other kernels are used for those that it cannot address.
    #[error("no tensor map for {operand}: {reason}")]
    TensorMap {
        /// The matrix: x, W, y, A, B or h.
        operand: &'static str,
        /// The reason.
        reason: Unaddressable,
    },
}

/// Why the copy engine cannot address a matrix (*CUDA Driver API*, `cuTensorMapEncodeTiled`).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unaddressable {
    /// The address at which it starts.
    #[error("its address {address:#x} is not a multiple of 16")]
    Address {
        /// The address of its first element.
        address: u64,
    },
    /// The distance between its rows.
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
        /// The matrix's rows.
        rows: u32,
        /// The matrix's columns.
        columns: u32,
    },
    /// Any other reason that the driver gives.
    #[error("the driver refuses it with {code}: {text}")]
    Refused {
        /// The driver's result, a `CUresult`.
        code: u32,
        /// The driver's description of the result.
        text: String,
    },
}

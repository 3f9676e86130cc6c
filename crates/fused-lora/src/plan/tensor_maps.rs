//! What the tensor maps of a launch on compute capability 9.0 describe: matrices, and the boxes that are cut
//! from them.

#[cfg(doc)]
use fused_lora_kernels::tensor_map::TensorMaps;
use fused_lora_kernels::{
    params::Params,
    table::{Kernel, Operation},
};

use super::error::{Error, Unaddressable};

/// Columns of a box: with f16 one row of the 128-byte swizzle.
const BOX_COLUMNS: u32 = 64;
/// Rows of y that a warpgroup stores.
const Y_BOX_ROWS: u32 = 64;
/// Bytes of an element.
const ELEMENT: u64 = 2;
/// What addresses and strides are multiples of, in bytes.
const GRANULE: u64 = 16;
/// What strides are below.
const STRIDE_LIMIT: u64 = 1 << 40;

/// `CUtensorMapSwizzle`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Swizzle {
    Bytes32 = 1,
    Bytes64 = 2,
    Bytes128 = 3,
}

/// A matrix, and how boxes are cut from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boxed {
    pub(crate) operand: &'static str,
    pub(crate) address: u64,
    pub(crate) rows: u32,
    pub(crate) columns: u32,
    /// Elements from row to row.
    stride: u32,
    pub(crate) box_rows: u32,
    pub(crate) box_columns: u32,
}

/// x, W, y, A, B, h as [`TensorMaps`] says.
pub(crate) fn boxes(kernel: &Kernel, cluster: u32, params: &Params) -> [Option<Boxed>; 6] {
    let Params { m, n, k, ldx, ldw, ldy, lora, .. } = *params;
    // Where the CTAs of a cluster share a row tile, each loads its part of x for all.
    let sharing = if kernel.operation == Operation::GemmSplitK { 1 } else { cluster.max(1) };
    let boxed = |operand, address, rows, columns, stride, box_rows| Boxed {
        operand,
        address,
        rows,
        columns,
        stride,
        box_rows,
        box_columns: BOX_COLUMNS,
    };
    let x = boxed("x", params.x.address(), m, k, ldx, kernel.block_m / sharing);
    let w = boxed("W", params.w.address(), n, k, ldw, kernel.block_n);
    let y = Boxed {
        box_columns: kernel.block_n.min(BOX_COLUMNS),
        ..boxed("y", params.y.address(), m, n, ldy, Y_BOX_ROWS)
    };
    let fused = !matches!(kernel.operation, Operation::Gemm | Operation::GemmSplitK);
    // Of all adapters: A has as many rows as B has columns.
    let ranks = lora.ldb;
    let a = boxed("A", lora.a.address(), ranks, k, lora.lda, kernel.a_rows());
    let b = boxed("B", lora.b.address(), n, ranks, lora.ldb, kernel.block_n);
    let h = boxed("h", lora.h.address(), m, lora.ldh, lora.ldh, kernel.block_m);
    let shared = kernel.operation == Operation::Fused;
    [Some(x), Some(w), Some(y), fused.then_some(a), fused.then_some(b), shared.then_some(h)]
}

impl Boxed {
    /// What the copy engine demands.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self { operand, address, rows, columns, .. } = *self;
        let (bytes, row) = (self.stride_bytes(), u64::from(columns) * ELEMENT);
        let reason = if rows == 0 || columns == 0 {
            Unaddressable::Empty { rows, columns }
        } else if !address.is_multiple_of(GRANULE) {
            Unaddressable::Address { address }
        } else if !bytes.is_multiple_of(GRANULE) || bytes < row || bytes >= STRIDE_LIMIT {
            Unaddressable::Stride { bytes, row }
        } else {
            return Ok(());
        };
        Err(Error::TensorMap { operand, reason })
    }

    pub(crate) fn stride_bytes(&self) -> u64 {
        u64::from(self.stride) * ELEMENT
    }

    /// The swizzle of a row's size in bytes, so that eight rows lie in different banks.
    pub(crate) fn swizzle(&self) -> Swizzle {
        match self.box_columns {
            16 => Swizzle::Bytes32,
            32 => Swizzle::Bytes64,
            _ => Swizzle::Bytes128,
        }
    }
}

#[cfg(test)]
#[path = "tensor_maps_tests.rs"]
mod tests;

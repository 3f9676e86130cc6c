//! The tensor maps of a launch on compute capability 9.0.
//!
//! All are made for every launch: encoding one is arithmetic on the host, and x and y are the caller's in any case. What
//! is made is part of the launch's parameter, so a captured graph keeps it.

use std::ffi::c_void;

use fused_lora_kernels::{
    params::Params,
    table::{Kernel, Operation},
    tensor_map::{TensorMap, TensorMaps},
};

use crate::cuda::{
    driver::{self, structures::RawTensorMap},
    error::{Error, Unaddressable},
};

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

/// `CU_TENSOR_MAP_DATA_TYPE_FLOAT16`
const FLOAT16: u32 = 6;
/// `CU_TENSOR_MAP_INTERLEAVE_NONE`
const NO_INTERLEAVE: u32 = 0;
/// `CU_TENSOR_MAP_L2_PROMOTION_L2_128B`: a row of a box is a line of L2.
const PROMOTION_128_BYTES: u32 = 2;
/// `CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE`: what lies outside is read as zero.
const FILL_ZERO: u32 = 0;

/// `CUtensorMapSwizzle`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Swizzle {
    Bytes32 = 1,
    Bytes64 = 2,
    Bytes128 = 3,
}

/// A matrix, and how boxes are cut from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Boxed {
    operand: &'static str,
    address: u64,
    rows: u32,
    columns: u32,
    /// Elements from row to row.
    stride: u32,
    box_rows: u32,
    box_columns: u32,
}

/// The maps that a kernel needs in clusters of so many CTAs. Those of operands that it does not read stay empty.
pub(super) fn encode(kernel: &Kernel, cluster: u32, params: &Params) -> Result<TensorMaps, Error> {
    let mut maps = TensorMaps::default();
    for (map, boxed) in [&mut maps.x, &mut maps.w, &mut maps.y, &mut maps.a, &mut maps.b, &mut maps.h]
        .into_iter()
        .zip(operands(kernel, cluster, params))
    {
        if let Some(boxed) = boxed {
            *map = boxed.encode()?;
        }
    }
    Ok(maps)
}

/// x, W, y, A, B, h as [`TensorMaps`] says.
fn operands(kernel: &Kernel, cluster: u32, params: &Params) -> [Option<Boxed>; 6] {
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
    /// Checks what the copy engine demands, and asks the driver for the map.
    fn encode(&self) -> Result<TensorMap, Error> {
        let failed = |reason| Error::TensorMap { operand: self.operand, reason };
        self.check().map_err(failed)?;
        let mut map = RawTensorMap::default();
        // SAFETY: `map` is writable, at a multiple of 64; dimensions, boxes and element strides are two each, strides
        // one less. The address is not dereferenced.
        let encoded = unsafe {
            driver::tensor_map_encode_tiled(
                &mut map,
                FLOAT16,
                2,
                self.address as *mut c_void,
                [self.columns, self.rows].map(u64::from).as_ptr(),
                [self.stride_bytes()].as_ptr(),
                [self.box_columns, self.box_rows].as_ptr(),
                [1, 1].as_ptr(),
                NO_INTERLEAVE,
                self.swizzle() as u32,
                PROMOTION_128_BYTES,
                FILL_ZERO,
            )
        };
        match encoded {
            Ok(()) => Ok(TensorMap(map.0)),
            Err(Error::Driver { code, text, .. }) => Err(failed(Unaddressable::Refused { code, text })),
            Err(error) => Err(error),
        }
    }

    fn check(&self) -> Result<(), Unaddressable> {
        let Self { address, rows, columns, .. } = *self;
        let (bytes, row) = (self.stride_bytes(), u64::from(columns) * ELEMENT);
        if rows == 0 || columns == 0 {
            return Err(Unaddressable::Empty { rows, columns });
        }
        if !address.is_multiple_of(GRANULE) {
            return Err(Unaddressable::Address { address });
        }
        if !bytes.is_multiple_of(GRANULE) || bytes < row || bytes >= STRIDE_LIMIT {
            return Err(Unaddressable::Stride { bytes, row });
        }
        Ok(())
    }

    fn stride_bytes(&self) -> u64 {
        u64::from(self.stride) * ELEMENT
    }

    /// That of a row's bytes, so that eight rows lie in different banks.
    fn swizzle(&self) -> Swizzle {
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

//! The tensor maps of a launch, as a host encodes them for the driver.

use fused_lora_kernels::{
    Global,
    params::Params,
    table::{Kernel, Operation},
    tensor_map::{TensorMap, TensorMaps},
};
use fused_lora_simt::{self as simt, Swizzle};

/// Columns of a box of x, W, A, B and h: a row of the 128-byte swizzle.
const COLUMNS: u32 = 64;
/// Rows of a box of y: those of a warpgroup.
const Y_ROWS: u32 = 64;

/// The maps that a kernel wants in clusters of `cluster`, for slabs of `slab_rows` ranks. What the kernel
/// does not use, or the launch does not have, is no map.
pub(crate) fn maps(kernel: &Kernel, params: &Params, slab_rows: u32, cluster: u32) -> TensorMaps {
    let Params { m, n, k, ref lora, .. } = *params;
    let inner = |from, rows, columns, pitch, box_rows| map(from, [columns, rows], pitch, [COLUMNS, box_rows]);
    // The CTAs of a cluster load x for each other, if it is the same x.
    let shares = if kernel.operation == Operation::GemmSplitK { 1 } else { cluster };
    let mut maps = TensorMaps {
        x: inner(params.x, m, k, params.ldx, kernel.block_m / shares),
        w: inner(params.w, n, k, params.ldw, kernel.block_n),
        y: map(params.y, [n, m], params.ldy, [kernel.block_n.min(COLUMNS), Y_ROWS]),
        ..TensorMaps::default()
    };
    if !lora.a.is_null() {
        maps.a = inner(lora.a, slab_rows, k, lora.lda, kernel.a_rows());
        maps.b = inner(lora.b, n, slab_rows, lora.ldb, kernel.block_n);
    }
    if kernel.operation == Operation::Fused && lora.ldh > 0 {
        maps.h = inner(lora.h, m, lora.ldh, lora.ldh, kernel.block_m);
    }
    maps
}

/// A map of a matrix with `dims` columns and rows and a pitch in elements; the swizzle is as wide as a row of
/// its box.
fn map(from: Global<u16>, [columns, rows]: [u32; 2], pitch: u32, box_dims: [u32; 2]) -> TensorMap {
    let swizzle = match box_dims[0] {
        64 => Swizzle::B128,
        32 => Swizzle::B64,
        16 => Swizzle::B32,
        columns => panic!("no swizzle has rows of {columns} columns"),
    };
    let map = simt::TensorMap {
        address: from.address(),
        dims: [u64::from(columns), u64::from(rows)],
        stride: 2 * u64::from(pitch),
        box_dims,
        swizzle,
    };
    TensorMap(map.encode())
}

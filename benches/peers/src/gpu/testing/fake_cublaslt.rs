//! A test double of cuBLASLt's C interface: computes on the host, and refuses whatever it was not asked for in
//! the terms of NVIDIA's documentation (<https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api>).
//!
//! It knows one thing, D = α·op(A)·op(B) + β·C on column-major f16 matrices with f32 sums, and takes it from its
//! own reading of that documentation, not from the code that calls it. No module of a crate: `testing` compiles it
//! with rustc alone into a library that is loaded as the real one is.

#![allow(non_snake_case, private_interfaces)]
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments, missing_docs)]

use std::ffi::c_void;

const SUCCESS: u32 = 0;
const INVALID_VALUE: u32 = 7;
const NOT_SUPPORTED: u32 = 15;

/// `cudaDataType_t` and `cublasComputeType_t`.
const CUDA_R_32F: u32 = 0;
const CUDA_R_16F: u32 = 2;
const CUBLAS_COMPUTE_32F: u32 = 68;
/// `cublasOperation_t`.
const OP_N: i32 = 0;
const OP_T: i32 = 1;
/// `cublasLtMatmulDescAttributes_t`, `cublasLtMatmulPreferenceAttributes_t`.
const TRANSA: u32 = 3;
const TRANSB: u32 = 4;
const MAX_WORKSPACE_BYTES: u32 = 1;

/// In the algorithm that works.
const MAGIC: u64 = 0x600d_a160;

struct Operation {
    transa: i32,
    transb: i32,
}

struct Layout {
    rows: usize,
    columns: usize,
    ld: usize,
}

struct Preference {
    workspace_bytes: u64,
}

#[repr(C)]
pub struct Algorithm {
    data: [u64; 8],
}

#[repr(C)]
pub struct HeuristicResult {
    algorithm: Algorithm,
    workspace_bytes: usize,
    state: u32,
    waves: f32,
    reserved: [i32; 4],
}

unsafe fn give<T>(to: *mut *mut T, value: T) -> u32 {
    *to = Box::into_raw(Box::new(value));
    SUCCESS
}

unsafe fn take<T>(value: *mut T) -> u32 {
    drop(Box::from_raw(value));
    SUCCESS
}

#[no_mangle]
pub extern "C" fn cublasLtGetVersion() -> usize {
    129_900
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtCreate(handle: *mut *mut u8) -> u32 {
    // As where the driver is too old for the library.
    if std::env::var_os("FAKE_CUBLASLT_DOES_NOT_START").is_some() {
        return 1;
    }
    give(handle, 0)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtDestroy(handle: *mut u8) -> u32 {
    take(handle)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulDescCreate(to: *mut *mut Operation, compute: u32, scale: u32) -> u32 {
    if (compute, scale) != (CUBLAS_COMPUTE_32F, CUDA_R_32F) {
        return NOT_SUPPORTED;
    }
    give(to, Operation { transa: OP_N, transb: OP_N })
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulDescDestroy(operation: *mut Operation) -> u32 {
    take(operation)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulDescSetAttribute(
    operation: *mut Operation,
    attribute: u32,
    value: *const i32,
    bytes: usize,
) -> u32 {
    if bytes != 4 || ![OP_N, OP_T].contains(&*value) {
        return INVALID_VALUE;
    }
    match attribute {
        TRANSA => (*operation).transa = *value,
        TRANSB => (*operation).transb = *value,
        _ => return INVALID_VALUE,
    }
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatrixLayoutCreate(
    to: *mut *mut Layout,
    element: u32,
    rows: u64,
    columns: u64,
    ld: i64,
) -> u32 {
    if element != CUDA_R_16F || ld < rows as i64 {
        return INVALID_VALUE;
    }
    give(to, Layout { rows: rows as usize, columns: columns as usize, ld: ld as usize })
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatrixLayoutDestroy(layout: *mut Layout) -> u32 {
    take(layout)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulPreferenceCreate(to: *mut *mut Preference) -> u32 {
    give(to, Preference { workspace_bytes: 0 })
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulPreferenceDestroy(preference: *mut Preference) -> u32 {
    take(preference)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    preference: *mut Preference,
    attribute: u32,
    value: *const u64,
    bytes: usize,
) -> u32 {
    if bytes != 8 || attribute != MAX_WORKSPACE_BYTES {
        return INVALID_VALUE;
    }
    (*preference).workspace_bytes = *value;
    SUCCESS
}

/// Offers three: one that the device does not support, one that works, one that wants more memory than there is.
#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulAlgoGetHeuristic(
    _: *mut u8,
    operation: *const Operation,
    a: *const Layout,
    b: *const Layout,
    c: *const Layout,
    d: *const Layout,
    preference: *const Preference,
    asked: i32,
    results: *mut HeuristicResult,
    found: *mut i32,
) -> u32 {
    if asked != 32 || (*preference).workspace_bytes != 32 << 20 || !fits(&*operation, &*a, &*b, &*c, &*d) {
        return INVALID_VALUE;
    }
    for (i, (tag, workspace_bytes, state)) in
        [(1, 0, NOT_SUPPORTED), (MAGIC, 1 << 20, SUCCESS), (2, 64 << 20, SUCCESS)].into_iter().enumerate()
    {
        let algorithm = Algorithm { data: [tag; 8] };
        results.add(i).write(HeuristicResult {
            algorithm,
            workspace_bytes,
            state,
            waves: 1.0,
            reserved: [0; 4],
        });
    }
    *found = 3;
    SUCCESS
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmul(
    handle: *mut u8,
    operation: *const Operation,
    alpha: *const f32,
    a: *const u16,
    a_layout: *const Layout,
    b: *const u16,
    b_layout: *const Layout,
    beta: *const f32,
    c: *const u16,
    c_layout: *const Layout,
    d: *mut u16,
    d_layout: *const Layout,
    algorithm: *const Algorithm,
    workspace: *mut c_void,
    workspace_bytes: usize,
    _stream: *mut c_void,
) -> u32 {
    let (operation, a_layout, b_layout) = (&*operation, &*a_layout, &*b_layout);
    let (c_layout, d_layout) = (&*c_layout, &*d_layout);
    if handle.is_null()
        || !fits(operation, a_layout, b_layout, c_layout, d_layout)
        || (*algorithm).data[0] != MAGIC
        || workspace.is_null()
        || workspace_bytes != 1 << 20
    {
        return INVALID_VALUE;
    }
    let at = |matrix: *const u16, layout: &Layout, transposed: i32, row: usize, column: usize| {
        let (row, column) = if transposed == OP_T { (column, row) } else { (row, column) };
        to_f32(*matrix.add(column * layout.ld + row))
    };
    let k = if operation.transa == OP_T { a_layout.rows } else { a_layout.columns };
    for column in 0..d_layout.columns {
        for row in 0..d_layout.rows {
            let term =
                |i| at(a, a_layout, operation.transa, row, i) * at(b, b_layout, operation.transb, i, column);
            let mut sum = *alpha * (0..k).map(term).sum::<f32>();
            // With β = 0 C is not read: it may hold NaN.
            if *beta != 0.0 {
                sum += *beta * at(c, c_layout, OP_N, row, column);
            }
            *d.add(column * d_layout.ld + row) = to_f16(sum);
        }
    }
    SUCCESS
}

/// Whether op(A) [m, k], op(B) [k, n], C and D [m, n] agree.
fn fits(operation: &Operation, a: &Layout, b: &Layout, c: &Layout, d: &Layout) -> bool {
    let op = |layout: &Layout, transposed| match transposed {
        OP_T => (layout.columns, layout.rows),
        _ => (layout.rows, layout.columns),
    };
    let ((m, k), (k_of_b, n)) = (op(a, operation.transa), op(b, operation.transb));
    k == k_of_b && (c.rows, c.columns) == (m, n) && (d.rows, d.columns) == (m, n)
}

fn to_f32(bits: u16) -> f32 {
    let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if sign == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// To the nearest, ties to even.
fn to_f16(value: f32) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    if value.is_nan() {
        return 0x7e00;
    }
    let magnitude = value.abs();
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    // The exponent's step; below 2⁻¹⁴ numbers are as far apart as just above it.
    let exponent = (((magnitude.to_bits() >> 23) as i32) - 127).max(-14);
    let steps = (magnitude / 2f32.powi(exponent - 10)).round_ties_even() as i32;
    // A carry into the exponent is what the addition does.
    sign | (((exponent + 14) << 10) + steps) as u16
}

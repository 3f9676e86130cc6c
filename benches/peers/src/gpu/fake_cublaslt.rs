//! A test double of cuBLASLt's C interface: computes on the host, and refuses whatever it was not asked for
//! in the terms of NVIDIA's documentation (<https://docs.nvidia.com/cuda/cublas/#using-the-cublaslt-api>).
//!
//! It knows one thing, D = α·op(A)·B + β·C on column-major f16 matrices with f32 sums, and takes it from its
//! own reading of that documentation, not from the code that calls it. No module of a crate: `testing`
//! compiles it with rustc alone into a library that is loaded as the real one is.

#![allow(non_snake_case, private_interfaces)]
#![allow(clippy::missing_safety_doc, clippy::too_many_arguments, missing_docs)]

use std::ffi::c_void;

const SUCCESS: u32 = 0;
const NOT_INITIALIZED: u32 = 1;
const INVALID_VALUE: u32 = 7;
const NOT_SUPPORTED: u32 = 15;

/// `cudaDataType_t` and `cublasComputeType_t`.
const CUDA_R_32F: u32 = 0;
const CUDA_R_16F: u32 = 2;
const CUBLAS_COMPUTE_32F: u32 = 68;
/// `cublasLtMatmulDescAttributes_t`, `cublasLtMatmulPreferenceAttributes_t`.
const TRANSA: u32 = 3;
const MAX_WORKSPACE_BYTES: u32 = 1;

/// In the algorithm that works.
const MAGIC: u64 = 0x600d_a160;

/// `cublasOperation_t` of A: 0 takes it as it is stored, 1 transposed. B is taken as it is stored.
type Operation = i32;
/// Bytes of workspace.
type Preference = u64;

struct Layout {
    rows: usize,
    columns: usize,
    ld: usize,
}

impl Layout {
    /// Where an element is.
    fn at(&self, row: usize, column: usize) -> usize {
        column * self.ld + row
    }
}

#[repr(C)]
pub struct HeuristicResult {
    algorithm: [u64; 8],
    workspace_bytes: usize,
    state: u32,
    waves: f32,
    reserved: [i32; 4],
}

unsafe fn give<T>(to: *mut *mut T, value: T) -> u32 {
    *to = Box::into_raw(Box::new(value));
    SUCCESS
}

macro_rules! destroy {
    ($($function:ident: $object:ty),*) => {$(
        #[no_mangle]
        pub unsafe extern "C" fn $function(object: *mut $object) -> u32 {
            drop(Box::from_raw(object));
            SUCCESS
        }
    )*};
}

destroy!(
    cublasLtDestroy: u8,
    cublasLtMatmulDescDestroy: Operation,
    cublasLtMatrixLayoutDestroy: Layout,
    cublasLtMatmulPreferenceDestroy: Preference
);

#[no_mangle]
pub extern "C" fn cublasLtGetVersion() -> usize {
    129_900
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtCreate(handle: *mut *mut u8) -> u32 {
    // As where the driver is too old for the library.
    if std::env::var_os("FAKE_CUBLASLT_DOES_NOT_START").is_some() {
        return NOT_INITIALIZED;
    }
    give(handle, 0)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulDescCreate(to: *mut *mut Operation, compute: u32, scale: u32) -> u32 {
    if (compute, scale) != (CUBLAS_COMPUTE_32F, CUDA_R_32F) {
        return NOT_SUPPORTED;
    }
    give(to, 0)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulDescSetAttribute(
    operation: *mut Operation,
    attribute: u32,
    value: *const Operation,
    bytes: usize,
) -> u32 {
    if bytes != 4 || attribute != TRANSA || ![0, 1].contains(&*value) {
        return INVALID_VALUE;
    }
    *operation = *value;
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
pub unsafe extern "C" fn cublasLtMatmulPreferenceCreate(to: *mut *mut Preference) -> u32 {
    give(to, 0)
}

#[no_mangle]
pub unsafe extern "C" fn cublasLtMatmulPreferenceSetAttribute(
    preference: *mut Preference,
    attribute: u32,
    value: *const Preference,
    bytes: usize,
) -> u32 {
    if bytes != 8 || attribute != MAX_WORKSPACE_BYTES {
        return INVALID_VALUE;
    }
    *preference = *value;
    SUCCESS
}

/// Offers three: one that the device does not support, one that works, one that wants more memory than there
/// is.
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
    if asked != 32 || *preference != 32 << 20 || !fits(*operation, &*a, &*b, &*c, &*d) {
        return INVALID_VALUE;
    }
    let offers = [(1, 0, NOT_SUPPORTED), (MAGIC, 1 << 20, SUCCESS), (2, 64 << 20, SUCCESS)];
    for (i, (tag, workspace_bytes, state)) in offers.into_iter().enumerate() {
        let (algorithm, waves, reserved) = ([tag; 8], 1.0, [0; 4]);
        results.add(i).write(HeuristicResult { algorithm, workspace_bytes, state, waves, reserved });
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
    algorithm: *const u64,
    workspace: *mut c_void,
    workspace_bytes: usize,
    _stream: *mut c_void,
) -> u32 {
    let (a_layout, b_layout, c_layout, d_layout) = (&*a_layout, &*b_layout, &*c_layout, &*d_layout);
    if handle.is_null()
        || !fits(*operation, a_layout, b_layout, c_layout, d_layout)
        || *algorithm != MAGIC
        || workspace.is_null()
        || workspace_bytes != 1 << 20
    {
        return INVALID_VALUE;
    }
    for column in 0..d_layout.columns {
        for row in 0..d_layout.rows {
            let term = |i| {
                let of_a = if *operation == 1 { a_layout.at(i, row) } else { a_layout.at(row, i) };
                to_f32(*a.add(of_a)) * to_f32(*b.add(b_layout.at(i, column)))
            };
            let mut sum = *alpha * (0..b_layout.rows).map(term).sum::<f32>();
            // With β = 0 C is not read: it may hold NaN.
            if *beta != 0.0 {
                sum += *beta * to_f32(*c.add(c_layout.at(row, column)));
            }
            *d.add(d_layout.at(row, column)) = to_f16(sum);
        }
    }
    SUCCESS
}

/// Whether op(A) [m, k], B [k, n], C and D [m, n] agree.
fn fits(operation: Operation, a: &Layout, b: &Layout, c: &Layout, d: &Layout) -> bool {
    let (m, k) = if operation == 1 { (a.columns, a.rows) } else { (a.rows, a.columns) };
    k == b.rows && [c, d].iter().all(|layout| (layout.rows, layout.columns) == (m, b.columns))
}

/// 2¹¹²: the bits of an f16 as the upper bits of an f32 have an exponent that is too small by the difference
/// of the biases.
const BIAS: f32 = f32::from_bits((127 + 112) << 23);

fn to_f32(bits: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(bits & 0x7fff) << 13) * BIAS;
    // ∞ is as good as NaN here: neither is a right result.
    let magnitude = if magnitude < 65536.0 { magnitude } else { f32::NAN };
    magnitude.copysign(if bits >> 15 == 1 { -1.0 } else { 1.0 })
}

/// To the nearest, ties to even; NaN becomes ∞.
fn to_f16(value: f32) -> u16 {
    let bits = (value.abs() / BIAS).to_bits();
    let rounded = (bits + 0xfff + (bits >> 13 & 1)) >> 13;
    rounded.min(0x7c00) as u16 | ((value.to_bits() >> 16) & 0x8000) as u16
}

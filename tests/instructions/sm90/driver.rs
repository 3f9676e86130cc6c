//! What launches on compute capability 9.0 need of the driver and `cust::sys`, generated from CUDA 11's
//! headers, lacks. Layouts and values are those of CUDA 12's `cuda.h`. (`fused-lora` keeps its own to
//! itself.)

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use cust::sys::{CUfunction, CUstream};
use fused_lora_kernels::tensor_map::TensorMap;

use super::swizzle::Swizzle;
use crate::entry::Matrix;

/// `CUlaunchAttribute`
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Attribute {
    id: u32,
    pad: u32,
    /// `CUlaunchAttributeValue`, a union of 64 bytes.
    value: [u32; 16],
}

impl Attribute {
    fn new(id: u32, first: &[u32]) -> Self {
        Self { id, pad: 0, value: std::array::from_fn(|i| first.get(i).copied().unwrap_or(0)) }
    }

    /// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION`: clusters of so many CTAs.
    pub(crate) fn cluster(ctas: u32) -> Self {
        Self::new(4, &[ctas, 1, 1])
    }

    /// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`: may begin before the launch ahead has ended.
    pub(crate) fn programmatic() -> Self {
        Self::new(6, &[1])
    }
}

/// `CUlaunchConfig`
#[repr(C)]
struct Config {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: CUstream,
    attributes: *const Attribute,
    count: u32,
}

/// `CUtensorMap`
#[repr(C, align(64))]
struct Map([u64; 16]);

// With results as the numbers that they are: a driver may have some that no enum knows.
unsafe extern "C" {
    fn cuLaunchKernelEx(
        config: *const Config,
        function: CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;

    fn cuTensorMapEncodeTiled(
        map: *mut Map,
        data_type: u32,
        rank: u32,
        address: *mut c_void,
        dimensions: *const u64,
        strides: *const u64,
        box_dimensions: *const u32,
        element_strides: *const u32,
        interleave: u32,
        swizzle: u32,
        promotion: u32,
        fill: u32,
    ) -> u32;

    fn cuDriverGetVersion(version: *mut c_int) -> u32;
}

/// The CUDA version that the driver is for, 1000 · major + 10 · minor.
pub(crate) fn version() -> Result<c_int, u32> {
    let mut version = 0;
    // SAFETY: `version` is writable.
    match unsafe { cuDriverGetVersion(&mut version) } {
        0 => Ok(version),
        code => Err(code),
    }
}

/// Launches `function` with one parameter.
///
/// # Safety
///
/// The function's context is current and the stream of it; its parameter is a `P`; what it does with these
/// operands in this grid is defined.
pub(crate) unsafe fn launch<P>(
    function: CUfunction,
    [grid, threads, shared_bytes]: [u32; 3],
    stream: CUstream,
    attributes: &[Attribute],
    parameter: &mut P,
) -> Result<(), u32> {
    let config = Config {
        grid: [grid, 1, 1],
        block: [threads, 1, 1],
        shared_bytes,
        stream,
        attributes: attributes.as_ptr(),
        count: attributes.len() as u32,
    };
    let mut parameters = [ptr::from_mut(parameter).cast::<c_void>()];
    // SAFETY: configuration and attributes are alive, and the parameter is copied; the rest is the caller's
    // contract.
    match unsafe { cuLaunchKernelEx(&config, function, parameters.as_mut_ptr(), ptr::null_mut()) } {
        0 => Ok(()),
        code => Err(code),
    }
}

/// The map of a matrix at `address`.
pub(crate) fn encode(matrix: &Matrix, address: u64) -> Result<TensorMap, u32> {
    /// `CU_TENSOR_MAP_DATA_TYPE_FLOAT16`
    const FLOAT16: u32 = 6;
    // `CUtensorMapSwizzle`
    let swizzle = match matrix.swizzle {
        Swizzle::None => 0,
        Swizzle::B32 => 1,
        Swizzle::B64 => 2,
        Swizzle::B128 => 3,
    };
    let mut map = Map([0; 16]);
    // SAFETY: `map` is writable, at a multiple of 64; dimensions, boxes and element strides are two each,
    // strides one less. No interleave, no promotion, zeros outside are 0 each. The address is not
    // dereferenced.
    let code = unsafe {
        cuTensorMapEncodeTiled(
            &mut map,
            FLOAT16,
            2,
            address as *mut c_void,
            [matrix.columns, matrix.rows].map(u64::from).as_ptr(),
            [2 * u64::from(matrix.pitch)].as_ptr(),
            [matrix.box_columns, matrix.box_rows].as_ptr(),
            [1, 1].as_ptr(),
            0,
            swizzle,
            0,
            0,
        )
    };
    match code {
        0 => Ok(TensorMap(map.0)),
        code => Err(code),
    }
}

#[test]
fn structures_are_laid_out_as_the_drivers() {
    use std::mem::{offset_of, size_of};
    assert_eq!((size_of::<Attribute>(), offset_of!(Attribute, value)), (72, 8));
    assert_eq!((size_of::<Config>(), offset_of!(Config, stream), offset_of!(Config, count)), (56, 32, 48));
    assert_eq!((size_of::<Map>(), align_of::<Map>()), (128, 64));
}

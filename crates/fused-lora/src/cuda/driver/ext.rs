//! What launches on compute capability 9.0 need of the driver and `cust::sys`, generated from CUDA 11's headers, lacks:
//! attributes of a launch, clusters, tensor maps. Layouts and values are those of CUDA 12's `cuda.h`.
//!
//! The functions are called where the driver has said that it is for CUDA 12.0 or later, which has them all; in an
//! older one their trampolines return an error. They are declared with the result as the number that it is; see
//! [`driver`](super).

use std::ffi::{c_int, c_void};

use cust::sys::{CUfunction, CUstream};

use super::check;
use crate::cuda::error::Error;

/// `CUlaunchAttribute`: what it is, and 64 bytes of its value.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct LaunchAttribute {
    id: u32,
    pad: [u8; 4],
    value: LaunchAttributeValue,
}

/// `CUlaunchAttributeValue`, a union, of which these are the members used here.
#[derive(Clone, Copy)]
#[repr(C)]
union LaunchAttributeValue {
    /// To the union's size and alignment.
    pad: [u64; 8],
    cluster_dimensions: [u32; 3],
    programmatic_stream_serialization_allowed: c_int,
}

/// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION`
const CLUSTER_DIMENSION: u32 = 4;
/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`
const PROGRAMMATIC_STREAM_SERIALIZATION: u32 = 6;

impl LaunchAttribute {
    /// Clusters of so many CTAs along x.
    pub(crate) fn cluster(ctas: u32) -> Self {
        let mut value = LaunchAttributeValue { pad: [0; 8] };
        value.cluster_dimensions = [ctas, 1, 1];
        Self { id: CLUSTER_DIMENSION, pad: [0; 4], value }
    }

    /// The launch may begin while the one before it in its stream still runs.
    pub(crate) fn programmatic() -> Self {
        let mut value = LaunchAttributeValue { pad: [0; 8] };
        value.programmatic_stream_serialization_allowed = 1;
        Self { id: PROGRAMMATIC_STREAM_SERIALIZATION, pad: [0; 4], value }
    }
}

/// `CUlaunchConfig`
#[repr(C)]
pub(crate) struct LaunchConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: CUstream,
    attributes: *const LaunchAttribute,
    attribute_count: u32,
}

impl LaunchConfig {
    /// One dimension of CTAs and of threads.
    pub(crate) fn new(
        grid: u32,
        threads: u32,
        shared_bytes: u32,
        stream: CUstream,
        attributes: &[LaunchAttribute],
    ) -> Self {
        Self {
            grid: [grid, 1, 1],
            block: [threads, 1, 1],
            shared_bytes,
            stream,
            attributes: attributes.as_ptr(),
            attribute_count: attributes.len() as u32,
        }
    }
}

/// `CUtensorMap`; the driver wants it at a multiple of 64.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct RawTensorMap(pub(crate) [u64; 16]);

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
pub(crate) enum Swizzle {
    Bytes32 = 1,
    Bytes64 = 2,
    Bytes128 = 3,
}

unsafe extern "C" {
    fn cuLaunchKernelEx(
        config: *const LaunchConfig,
        function: CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;

    fn cuOccupancyMaxActiveClusters(
        clusters: *mut c_int,
        function: CUfunction,
        config: *const LaunchConfig,
    ) -> u32;

    fn cuTensorMapEncodeTiled(
        map: *mut RawTensorMap,
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
}

/// `cuLaunchKernelEx`
///
/// # Safety
///
/// The function's context is current and the stream of it; the attributes of `config` are alive; `parameters` has a
/// pointer to each of the function's parameters.
pub(crate) unsafe fn launch_kernel(
    config: &LaunchConfig,
    function: CUfunction,
    parameters: &mut [*mut c_void],
) -> Result<(), Error> {
    // SAFETY: the caller's contract.
    let result = unsafe { cuLaunchKernelEx(config, function, parameters.as_mut_ptr(), std::ptr::null_mut()) };
    check("cuLaunchKernelEx", result)
}

/// How many clusters of such a launch the device holds at a time.
///
/// # Safety
///
/// The function's context is current; the attributes of `config` are alive.
pub(crate) unsafe fn max_active_clusters(function: CUfunction, config: &LaunchConfig) -> Result<u32, Error> {
    let mut clusters = 0;
    // SAFETY: `clusters` is writable; the rest is the caller's contract.
    let result = unsafe { cuOccupancyMaxActiveClusters(&mut clusters, function, config) };
    check("cuOccupancyMaxActiveClusters", result)?;
    Ok(u32::try_from(clusters).unwrap_or(0))
}

/// The map of a matrix of f16 in device memory, columns first: `dimensions` in elements, `stride` from row to row in
/// bytes, boxes of `box_dimensions` elements. Nothing on the device is touched.
pub(crate) fn encode_tensor_map(
    address: u64,
    dimensions: [u64; 2],
    stride: u64,
    box_dimensions: [u32; 2],
    swizzle: Swizzle,
) -> Result<RawTensorMap, Error> {
    let mut map = RawTensorMap::default();
    // SAFETY: `map` is writable, at a multiple of 64; dimensions, boxes and element strides are two each, strides one
    // less. The address is not dereferenced.
    let result = unsafe {
        cuTensorMapEncodeTiled(
            &mut map,
            FLOAT16,
            2,
            address as *mut c_void,
            dimensions.as_ptr(),
            [stride].as_ptr(),
            box_dimensions.as_ptr(),
            [1, 1].as_ptr(),
            NO_INTERLEAVE,
            swizzle as u32,
            PROMOTION_128_BYTES,
            FILL_ZERO,
        )
    };
    check("cuTensorMapEncodeTiled", result)?;
    Ok(map)
}

#[cfg(test)]
mod tests {
    use std::mem::{align_of, offset_of, size_of};

    use super::*;

    /// As a C compiler lays out those of `cuda.h` on 64-bit Linux.
    #[test]
    fn structures_are_laid_out_as_the_drivers() {
        assert_eq!((size_of::<LaunchAttribute>(), align_of::<LaunchAttribute>()), (72, 8));
        assert_eq!((offset_of!(LaunchAttribute, id), offset_of!(LaunchAttribute, value)), (0, 8));
        assert_eq!((size_of::<LaunchConfig>(), align_of::<LaunchConfig>()), (56, 8));
        assert_eq!(
            [
                offset_of!(LaunchConfig, grid),
                offset_of!(LaunchConfig, block),
                offset_of!(LaunchConfig, shared_bytes),
                offset_of!(LaunchConfig, stream),
                offset_of!(LaunchConfig, attributes),
                offset_of!(LaunchConfig, attribute_count),
            ],
            [0, 12, 24, 32, 40, 48]
        );
        assert_eq!((size_of::<RawTensorMap>(), align_of::<RawTensorMap>()), (128, 64));
    }

    #[test]
    fn attributes_hold_what_they_say_and_zeros() {
        let words = |attribute: LaunchAttribute| {
            // SAFETY: all 72 bytes were written: `pad` spans the union.
            unsafe { std::mem::transmute::<LaunchAttribute, [u32; 18]>(attribute) }
        };
        let expected = |first: &[u32]| std::array::from_fn(|i| first.get(i).copied().unwrap_or(0));
        assert_eq!(words(LaunchAttribute::cluster(4)), expected(&[4, 0, 4, 1, 1]));
        assert_eq!(words(LaunchAttribute::programmatic()), expected(&[6, 0, 1]));
        let attributes = [LaunchAttribute::cluster(2), LaunchAttribute::programmatic()];
        let config = LaunchConfig::new(10, 384, 1000, std::ptr::null_mut(), &attributes);
        assert_eq!((config.grid, config.block, config.shared_bytes), ([10, 1, 1], [384, 1, 1], 1000));
        assert_eq!((config.attributes, config.attribute_count), (attributes.as_ptr(), 2));
    }
}

//! Structures that are handed to the driver, as CUDA 12's `cuda.h` has them.

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use super::types::CUstream;

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

/// One side of a copy of rows.
#[derive(Clone, Copy)]
#[repr(C)]
struct CopySide {
    x_bytes: usize,
    y: usize,
    memory_type: u32,
    host: *mut c_void,
    device: u64,
    array: *mut c_void,
    pitch: usize,
}

/// `CUDA_MEMCPY2D_v2`
#[repr(C)]
pub(crate) struct CopyRows {
    from: CopySide,
    to: CopySide,
    row_bytes: usize,
    rows: usize,
}

/// `CU_MEMORYTYPE_DEVICE`
const MEMORY_DEVICE: u32 = 2;

impl CopyRows {
    /// `rows` rows of `row_bytes`, between addresses on the device with the bytes from row to row there.
    pub(crate) fn on_device(from: (u64, usize), to: (u64, usize), rows: usize, row_bytes: usize) -> Self {
        let [from, to] = [from, to].map(|(device, pitch)| CopySide {
            x_bytes: 0,
            y: 0,
            memory_type: MEMORY_DEVICE,
            host: ptr::null_mut(),
            device,
            array: ptr::null_mut(),
            pitch,
        });
        Self { from, to, row_bytes, rows }
    }
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
        assert_eq!((size_of::<CopyRows>(), align_of::<CopyRows>()), (128, 8));
        assert_eq!(
            [
                offset_of!(CopySide, y),
                offset_of!(CopySide, memory_type),
                offset_of!(CopySide, host),
                offset_of!(CopySide, device),
                offset_of!(CopySide, array),
                offset_of!(CopySide, pitch),
            ],
            [8, 16, 24, 32, 40, 48]
        );
        assert_eq!([offset_of!(CopyRows, to), offset_of!(CopyRows, row_bytes)], [56, 112]);
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
        let config = LaunchConfig::new(10, 384, 1000, CUstream::NULL, &attributes);
        assert_eq!((config.grid, config.block, config.shared_bytes), ([10, 1, 1], [384, 1, 1], 1000));
        assert_eq!((config.attributes, config.attribute_count), (attributes.as_ptr(), 2));
    }
}

//! Tensors as DLPack describes them: <https://dmlc.github.io/dlpack/latest/c_api.html>, "DLPackExchangeAPI".
//! torch has the function since 2.10; it costs less than the methods that would say the same.

use std::{ffi::c_void, sync::OnceLock};

use fused_lora::DType;
use pyo3::{ffi, prelude::*};

/// `DLTensor`
#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    ndim: i32,
    code: u8,
    bits: u8,
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

/// `DLPackDLTensorFromPyObjectNoSync`
type Describe = unsafe extern "C" fn(*mut c_void, *mut DlTensor) -> i32;

/// `DLPackExchangeAPI` of version 1
#[repr(C)]
struct Api {
    major: u32,
    minor: u32,
    earlier: *const c_void,
    allocate: *const c_void,
    managed_from_object: *const c_void,
    managed_to_object: *const c_void,
    describe: Option<Describe>,
    stream: *const c_void,
}

static DESCRIBE: OnceLock<Describe> = OnceLock::new();

/// `kDLCPU`
const CPU: i32 = 1;
/// Most dimensions of a tensor that is described.
const MOST_DIMENSIONS: usize = 8;

/// Describes tensors by `capsule`, torch's `Tensor.__dlpack_c_exchange_api__`, from now on. Another version
/// of the interface is left alone: nothing is described then.
pub(crate) fn set(capsule: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: Python checks the object and the capsule's name, by which DLPack names this structure; it is
    // there while the process is.
    let api = unsafe { ffi::PyCapsule_GetPointer(capsule.as_ptr(), c"dlpack_exchange_api".as_ptr()) };
    if api.is_null() {
        return Err(PyErr::fetch(capsule.py()));
    }
    // SAFETY: as above; the version comes first in all of them.
    let api = unsafe { &*api.cast::<Api>() };
    if let (1, Some(describe)) = (api.major, api.describe) {
        let _ = DESCRIBE.set(describe);
    }
    Ok(())
}

/// A tensor in the CPU's memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Description {
    pub(crate) pointer: usize,
    pub(crate) dtype: DType,
    dimensions: usize,
    shape: [i64; MOST_DIMENSIONS],
    strides: [i64; MOST_DIMENSIONS],
}

impl Description {
    /// None for one elsewhere, of another layout or type, or of many dimensions.
    ///
    /// # Safety
    ///
    /// It is a `torch.Tensor`, of no subclass but `Parameter`.
    pub(crate) unsafe fn of(tensor: &Bound<'_, PyAny>) -> Option<Self> {
        let describe = DESCRIBE.get()?;
        let mut found = std::mem::MaybeUninit::<DlTensor>::zeroed();
        // SAFETY: the caller's contract; all of a `DlTensor` may be zero. What it points to stays while the
        // tensor does.
        let found = unsafe {
            if describe(tensor.as_ptr().cast(), found.as_mut_ptr()) != 0 {
                // Of a tensor that DLPack cannot describe.
                drop(PyErr::take(tensor.py()));
                return None;
            }
            found.assume_init()
        };
        // The numbers of kDLFloat and kDLBfloat.
        let dtype = match (found.code, found.bits, found.lanes) {
            (2, 16, 1) => DType::F16,
            (4, 16, 1) => DType::Bf16,
            (2, 32, 1) => DType::F32,
            _ => return None,
        };
        let dimensions = found.ndim as usize;
        if found.device_type != CPU || dimensions > MOST_DIMENSIONS {
            return None;
        }
        let (mut shape, mut strides) = ([0; MOST_DIMENSIONS], [0; MOST_DIMENSIONS]);
        if dimensions > 0 {
            if found.shape.is_null() || found.strides.is_null() {
                return None;
            }
            // SAFETY: both have as many elements as there are dimensions.
            unsafe {
                shape[..dimensions].copy_from_slice(std::slice::from_raw_parts(found.shape, dimensions));
                strides[..dimensions].copy_from_slice(std::slice::from_raw_parts(found.strides, dimensions));
            }
        }
        if found.data.is_null() && !shape[..dimensions].contains(&0) {
            // Zeros that have no memory.
            return None;
        }
        let pointer = found.data as usize + found.byte_offset as usize;
        Some(Self { pointer, dtype, dimensions, shape, strides })
    }

    pub(crate) fn shape(&self) -> &[i64] {
        &self.shape[..self.dimensions]
    }

    /// How many rows of its last dimension it has, if they are dense.
    pub(crate) fn dense_rows(&self) -> Option<usize> {
        let mut expected = 1;
        for i in (0..self.dimensions).rev() {
            if self.shape[i] != 1 && self.strides[i] != expected {
                return None;
            }
            expected *= self.shape[i];
        }
        let (_, before) = self.shape().split_last()?;
        Some(before.iter().product::<i64>() as usize)
    }
}

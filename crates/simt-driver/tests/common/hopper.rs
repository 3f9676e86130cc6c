//! What launches on compute capability 9.0 need and `cust::sys`, made from CUDA 11's header, lacks.

use std::ffi::c_void;

use cust::{
    error::CudaResult,
    function::Function,
    memory::{DeviceBuffer, GpuBuffer},
    module::Module,
    stream::Stream,
    sys::{CUfunction, CUfunction_attribute, CUstream, cuFuncSetAttribute},
};
use fused_lora_kernels::{
    table::{Kernel, SM90_KERNELS},
    tensor_map::{TensorMap, TensorMaps, TensorParams},
};

use super::{K, M, N, Product, ok};

/// A launch attribute: its number, and the first words of its value.
pub(crate) type Attribute = (u32, [u32; 3]);

/// `CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION`, not 0.
pub(crate) const PROGRAMMATIC: Attribute = (6, [1, 0, 0]);

/// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION` of so many CTAs along x.
pub(crate) const fn clusters_of(ctas: u32) -> Attribute {
    (4, [ctas, 1, 1])
}

/// `CUlaunchAttribute`.
#[repr(C, align(8))]
struct RawAttribute {
    id: u32,
    padding: u32,
    value: [u32; 16],
}

/// `CUlaunchConfig`.
#[repr(C)]
pub(crate) struct RawConfig {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    stream: CUstream,
    attributes: *const RawAttribute,
    attribute_count: u32,
}

/// `CUtensorMap`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct RawTensorMap(pub(crate) [u64; 16]);

unsafe extern "C" {
    fn cuLaunchKernelEx(
        config: *const RawConfig,
        function: CUfunction,
        parameters: *mut *mut c_void,
        extra: *mut *mut c_void,
    ) -> u32;

    fn cuOccupancyMaxActiveClusters(to: *mut i32, function: CUfunction, config: *const RawConfig) -> u32;

    pub(crate) fn cuTensorMapEncodeTiled(
        to: *mut RawTensorMap,
        data_type: u32,
        rank: u32,
        address: u64,
        dims: *const u64,
        strides: *const u64,
        box_dims: *const u32,
        element_strides: *const u32,
        interleave: u32,
        swizzle: u32,
        l2_promotion: u32,
        oob_fill: u32,
    ) -> u32;
}

/// How a kernel is launched.
pub(crate) struct Config<'a> {
    pub(crate) grid: u32,
    pub(crate) threads: u32,
    pub(crate) shared_bytes: u32,
    pub(crate) attributes: &'a [Attribute],
}

impl<'a> Config<'a> {
    /// As the kernel wants it.
    pub(crate) fn of(kernel: &Kernel, grid: u32, attributes: &'a [Attribute]) -> Self {
        Self { grid, threads: kernel.threads, shared_bytes: kernel.shared_bytes, attributes }
    }

    fn with_raw<R>(&self, stream: CUstream, body: impl FnOnce(*const RawConfig) -> R) -> R {
        let raw = |&(id, [x, y, z]): &Attribute| {
            let mut value = [0; 16];
            value[..3].copy_from_slice(&[x, y, z]);
            RawAttribute { id, padding: 0, value }
        };
        let attributes: Vec<RawAttribute> = self.attributes.iter().map(raw).collect();
        body(&RawConfig {
            grid: [self.grid, 1, 1],
            block: [self.threads, 1, 1],
            shared_bytes: self.shared_bytes,
            stream,
            attributes: attributes.as_ptr(),
            attribute_count: attributes.len() as u32,
        })
    }

    /// `cuLaunchKernelEx`; the number of its result.
    pub(crate) fn launch<T>(&self, function: &Function<'_>, stream: &Stream, parameter: &T) -> u32 {
        let mut parameters = [(&raw const *parameter).cast_mut().cast()];
        self.with_raw(stream.as_inner(), |config| {
            // SAFETY: `config` and its attributes are valid; each test passes what its kernel takes.
            unsafe {
                cuLaunchKernelEx(config, function.to_raw(), parameters.as_mut_ptr(), std::ptr::null_mut())
            }
        })
    }

    /// `cuOccupancyMaxActiveClusters`.
    pub(crate) fn active_clusters(&self, function: &Function<'_>) -> Result<i32, u32> {
        let mut clusters = -1;
        let to = &raw mut clusters;
        match self.with_raw(std::ptr::null_mut(), |config| {
            // SAFETY: `config` and its attributes are valid, `to` is for a write.
            unsafe { cuOccupancyMaxActiveClusters(to, function.to_raw(), config) }
        }) {
            0 => Ok(clusters),
            code => Err(code),
        }
    }
}

/// A map of a matrix of f16: columns and rows of it and of the box, bytes of a row. `swizzle` is a
/// `CUtensorMapSwizzle`.
pub(crate) fn encode(
    address: u64,
    dims: [u64; 2],
    stride: u64,
    box_dims: [u32; 2],
    swizzle: u32,
) -> Result<RawTensorMap, u32> {
    let mut map = RawTensorMap([0; 16]);
    let (element_strides, strides) = ([1u32; 2], [stride]);
    // SAFETY: `map` is valid for a write, arrays have as many elements as dimensions, strides one less.
    let code = unsafe {
        cuTensorMapEncodeTiled(
            &raw mut map,
            6,
            2,
            address,
            dims.as_ptr(),
            strides.as_ptr(),
            box_dims.as_ptr(),
            element_strides.as_ptr(),
            0,
            swizzle,
            2,
            0,
        )
    };
    if code == 0 { Ok(map) } else { Err(code) }
}

pub(crate) fn module() -> CudaResult<Module> {
    Module::from_ptx(fused_lora_kernels::ptx::SM90A, &[])
}

pub(crate) fn kernel(name: &str) -> &'static Kernel {
    SM90_KERNELS.iter().find(|kernel| kernel.name == name).expect("a kernel of ours")
}

/// A kernel's function, allowed the shared memory that it uses.
pub(crate) fn function<'a>(module: &'a Module, name: &str) -> Function<'a> {
    let function = module.get_function(name).expect("ours");
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // SAFETY: a function of a loaded module.
    ok(unsafe { cuFuncSetAttribute(function.to_raw(), attribute, kernel(name).shared_bytes as i32) });
    function
}

/// The kernel with tiles of 64 × 64.
pub(crate) fn gemm(module: &Module) -> (Function<'_>, &'static Kernel) {
    let name = "sm90_gemm_64x64";
    (function(module, name), kernel(name))
}

/// A product's parameter for a kernel in clusters of so many CTAs.
pub(crate) fn tensor_params(product: &Product, kernel: &Kernel, cluster: u32) -> TensorParams {
    let map = |buffer: &DeviceBuffer<u16>, rows, columns, box_rows, box_columns, swizzle| {
        let address = buffer.as_device_ptr().as_raw();
        let map = encode(address, [columns, rows], 2 * columns, [box_columns, box_rows], swizzle);
        TensorMap(map.expect("a matrix as TMA wants it").0)
    };
    let [m, n, k] = [M, N, K].map(|n| n as u64);
    let y_columns = kernel.block_n.min(64);
    let y_swizzle = y_columns.trailing_zeros() - 3;
    let maps = TensorMaps {
        x: map(&product.x, m, k, kernel.block_m / cluster, 64, 3),
        w: map(&product.w, n, k, kernel.block_n, 64, 3),
        y: map(&product.y, m, n, 64, y_columns, y_swizzle),
        ..TensorMaps::default()
    };
    TensorParams { maps, params: product.params }
}

/// `cuDeviceGetAttribute` of the first device, by number: `cust::sys` does not have all.
#[track_caller]
pub(crate) fn device_attribute(number: u32) -> i32 {
    unsafe extern "C" {
        fn cuDeviceGetAttribute(to: *mut i32, attribute: u32, device: i32) -> u32;
    }
    let mut value = -1;
    // SAFETY: valid for a write.
    assert_eq!(unsafe { cuDeviceGetAttribute(&raw mut value, number, 0) }, 0);
    value
}

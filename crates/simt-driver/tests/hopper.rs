//! Compute capability 9.0: clusters, tensor maps, launches with attributes.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use common::{
    Product, assert_wrote,
    hopper::{
        self, Config, PROGRAMMATIC, RawTensorMap, clusters_of, cuTensorMapEncodeTiled, device_attribute,
        encode, tensor_params,
    },
    on_device, stream, this_test, with_gemm,
};
use cust::{
    CudaApiVersion,
    error::CudaError,
    memory::DeviceBuffer,
    module::Module,
    sys::{self, CUresult},
};
use fused_lora_kernels::{ptx, table::SM90_KERNELS};
use fused_lora_simt::{Swizzle, TensorMap};

const HOPPER: (&str, &str) = ("CAPABILITY", "9.0");

/// CTAs for the product in tiles of 64 × 64: 2 × 2.
const GRID: u32 = 4;

/// `CUDA_ERROR_INVALID_CLUSTER_SIZE`, which cust does not know.
const INVALID_CLUSTER_SIZE: u32 = 912;
const INVALID_VALUE: u32 = CUresult::CUDA_ERROR_INVALID_VALUE as u32;
const NOT_SUPPORTED: u32 = CUresult::CUDA_ERROR_NOT_SUPPORTED as u32;

/// CLUSTER_LAUNCH, TENSOR_MAP_ACCESS_SUPPORTED, MAX_SHARED_MEMORY_PER_BLOCK_OPTIN, MULTIPROCESSOR_COUNT.
fn limits() -> [i32; 4] {
    [120, 127, 97, 16].map(device_attribute)
}

#[test]
fn the_device_has_the_limits_of_its_capability() {
    on_device(this_test!(), &[HOPPER], || {
        assert_eq!(limits(), [1, 1, 227 * 1024, 8]);
    });
}

#[test]
fn devices_of_before_have_none_of_it() {
    let text = on_device(this_test!(), &[], || {
        assert_eq!(limits(), [0, 0, 163 * 1024, 4]);
        assert_eq!(hopper::module().map(|_| ()), Err(CudaError::InvalidPtx));
        assert_eq!(encode(1 << 32, [64, 64], 128, [64, 64], 3), Err(NOT_SUPPORTED));
        let module = common::module().expect("PTX");
        let function = module.get_function("gemm_64x64").expect("ours");
        let (product, stream) = (Product::new(0), stream());
        let kernel = common::kernel("gemm_64x64");
        let launch =
            |attributes: &[_]| Config::of(kernel, 3, attributes).launch(&function, &stream, &product.params);
        assert_eq!(launch(&[clusters_of(1)]), NOT_SUPPORTED);
        assert_eq!(launch(&[PROGRAMMATIC]), NOT_SUPPORTED);
        assert_eq!(launch(&[]), 0, "the function itself is there");
        stream.synchronize().expect("no fault");
        product.assert_right();
    });
    assert_wrote(text, &["PTX for sm_90a on compute capability 8.0"]);
}

/// As `fused-lora-libcuda` says of functions that the driver's library does not have.
#[test]
fn drivers_of_before_have_no_such_functions() {
    let not_found = CUresult::CUDA_ERROR_NOT_FOUND as u32;
    for version in ["11.5", "11.6", "11.8"] {
        with_gemm(this_test!(), &[HOPPER, ("DRIVER_VERSION", version)], |function| {
            // Of this process, which is not the loop's.
            let minor = CudaApiVersion::get().expect("a version").minor();
            let product = Product::new(0);
            let attributes = [clusters_of(1)];
            let config = Config::of(common::kernel("gemm_64x64"), 3, &attributes);
            let launched = config.launch(function, &stream(), &product.params);
            assert_eq!(launched, if minor < 6 { not_found } else { 0 }, "11.{minor}");
            let clusters = config.active_clusters(function);
            assert_eq!(clusters.err(), (minor < 7).then_some(not_found), "11.{minor}");
            assert_eq!(encode(1 << 32, [64, 64], 128, [64, 64], 3), Err(not_found), "11.{minor}");
            // UNSUPPORTED_PTX_VERSION, which cust does not know.
            assert_eq!(hopper::module().map(|_| ()), Err(CudaError::UnknownError), "11.{minor}");
        });
    }
}

#[test]
fn the_shipped_ptx_holds_all_kernels() {
    on_device(this_test!(), &[HOPPER, ("DRIVER_VERSION", "12.0")], || {
        let module = Module::from_ptx(ptx::SM90A, &[]).expect("PTX of these sources");
        for kernel in SM90_KERNELS {
            assert!(module.get_function(kernel.name).is_ok(), "{}", kernel.name);
        }
    });
}

/// Where the maps would not be where the copy engine can read them.
#[test]
fn an_unaligned_parameter_is_a_fault() {
    let text = on_device(this_test!(), &[HOPPER], || {
        let unaligned = ptx::SM90A.replace(".align 64", ".align 16");
        let (module, stream) = (Module::from_ptx(unaligned, &[]).expect("PTX"), stream());
        let (function, kernel) = hopper::gemm(&module);
        let product = Product::new(1);
        let params = tensor_params(&product, kernel, 1);
        let parameter = (&raw const params).cast_mut().cast();
        // SAFETY: the kernel takes one `TensorParams`.
        unsafe { stream.launch(&function, GRID, kernel.threads, kernel.shared_bytes, &[parameter]) }
            .expect("a launch says nothing yet");
        assert_eq!(stream.synchronize(), Err(CudaError::LaunchFailed));
    });
    assert_wrote(text, &["a tensor map whose address need not be a multiple of 64"]);
}

#[test]
fn a_product_by_tensor_maps_is_right() {
    for seed in ["0", "1", "2"] {
        let text = on_device(this_test!(), &[HOPPER, ("SEED", seed), ("TRACE", "1")], || {
            let (module, stream) = (hopper::module().expect("PTX"), stream());
            for (name, cluster) in [
                ("sm90_gemm_64x64", 1),
                ("sm90_gemm_64x64", 2),
                ("sm90_gemm_64x32", 4),
                ("sm90_gemm_64x16", 8),
                ("sm90_gemm_128x256", 1),
            ] {
                let (function, kernel) = (hopper::function(&module, name), hopper::kernel(name));
                let product = Product::new(3);
                let params = tensor_params(&product, kernel, cluster);
                let attributes = [clusters_of(cluster)];
                let config = Config::of(kernel, 8, &attributes);
                assert_eq!(config.launch(&function, &stream, &params), 0, "{name} in clusters of {cluster}");
                stream.synchronize().expect("no fault");
                product.assert_right();
            }
        });
        let expected = [
            "run 0: sm90_gemm_64x64 of 8 CTAs, seed",
            "run 1: sm90_gemm_64x64 of 8 CTAs in clusters of 2, seed",
            "run 3: sm90_gemm_64x16 of 8 CTAs in clusters of 8, seed",
        ];
        assert_wrote(text, &expected);
    }
}

/// By `cuLaunchKernel`: without clusters.
#[test]
fn launches_need_no_attributes() {
    on_device(this_test!(), &[HOPPER], || {
        let (module, stream) = (hopper::module().expect("PTX"), stream());
        let (function, kernel) = hopper::gemm(&module);
        let product = Product::new(1);
        let params = tensor_params(&product, kernel, 1);
        let parameter = (&raw const params).cast_mut().cast();
        // SAFETY: the kernel takes one `TensorParams`, and the driver checks what that says.
        unsafe { stream.launch(&function, GRID, kernel.threads, kernel.shared_bytes, &[parameter]) }
            .expect("a launch");
        stream.synchronize().expect("no fault");
        product.assert_right();
    });
}

#[test]
fn clusters_are_checked() {
    let text = on_device(this_test!(), &[HOPPER, ("MULTIPROCESSORS", "6")], || {
        let (module, stream) = (hopper::module().expect("PTX"), stream());
        let code = |name: &str, grid, attributes: &[_]| {
            let (function, kernel) = (hopper::function(&module, name), hopper::kernel(name));
            let product = Product::new(0);
            let params = tensor_params(&product, kernel, 1);
            Config::of(kernel, grid, attributes).launch(&function, &stream, &params)
        };
        let gemm = "sm90_gemm_64x64";
        assert_eq!(code(gemm, 3, &[clusters_of(2)]), INVALID_CLUSTER_SIZE, "the grid is no multiple");
        assert_eq!(code(gemm, 4, &[clusters_of(0)]), INVALID_CLUSTER_SIZE, "none");
        assert_eq!(code(gemm, 16, &[clusters_of(16)]), INVALID_CLUSTER_SIZE, "not portable");
        assert_eq!(code(gemm, 8, &[clusters_of(8)]), INVALID_CLUSTER_SIZE, "no room: one CTA for each SM");
        assert_eq!(code(gemm, 4, &[(4, [2, 2, 1])]), INVALID_CLUSTER_SIZE, "two dimensions");
        assert_eq!(code(gemm, 4, &[(4, [2, 1, 0])]), INVALID_CLUSTER_SIZE, "no third dimension");
        assert_eq!(code(gemm, 4, &[(2, [1, 0, 0])]), NOT_SUPPORTED, "cooperative");
        assert_eq!(code(gemm, 4, &[(99, [1, 0, 0])]), INVALID_VALUE, "no attribute");
        stream.synchronize().expect("nothing was launched");
    });
    assert_wrote(
        text,
        &[
            "sm90_gemm_64x64 not launched: [3, 1, 1] CTAs in clusters of [2, 1, 1]",
            "sm90_gemm_64x64 not launched: the device has no room for a cluster of 8 of its CTAs",
        ],
    );
}

#[test]
fn active_clusters_are_counted() {
    on_device(this_test!(), &[HOPPER, ("MULTIPROCESSORS", "18")], || {
        let module = hopper::module().expect("PTX");
        let name = "sm90_gemm_128x256";
        let kernel = hopper::kernel(name);
        let active =
            |function: &_, attributes: &[_]| Config::of(kernel, 8, attributes).active_clusters(function);
        let function = module.get_function(name).expect("ours");
        assert_eq!(active(&function, &[clusters_of(2)]), Err(INVALID_VALUE), "not allowed its shared memory");
        let function = hopper::function(&module, name);
        assert_eq!(active(&function, &[clusters_of(1)]), Ok(18));
        assert_eq!(active(&function, &[clusters_of(2)]), Ok(9));
        assert_eq!(active(&function, &[clusters_of(4)]), Ok(4), "the last 2 multiprocessors hold none");
        assert_eq!(active(&function, &[clusters_of(8)]), Ok(2));
        assert_eq!(active(&function, &[clusters_of(16)]), Err(INVALID_CLUSTER_SIZE));
        assert_eq!(active(&function, &[]), Err(INVALID_CLUSTER_SIZE), "of what size?");
        let two = Config { grid: 8, threads: 256, shared_bytes: 0, attributes: &[clusters_of(8)] };
        assert_eq!(two.active_clusters(&function), Ok(2), "registers for one CTA");
    });
}

#[test]
fn tensor_maps_are_checked_and_encoded() {
    let text = on_device(this_test!(), &[HOPPER], || {
        let address = 3 << 32;
        for (number, swizzle, columns) in
            [(0, Swizzle::None, 256), (1, Swizzle::B32, 16), (2, Swizzle::B64, 32), (3, Swizzle::B128, 64)]
        {
            let map = TensorMap { address, dims: [40, 70], stride: 80, box_dims: [columns, 256], swizzle };
            let encoded = encode(address, [40, 70], 80, [columns, 256], number);
            assert_eq!(encoded, Ok(RawTensorMap(map.encode())), "{swizzle:?}");
        }
        // What else the machine's own map refuses has its test there.
        for (stride, columns, swizzle, code) in [
            (88, 64, 3, INVALID_VALUE),
            (80, 72, 3, INVALID_VALUE),
            (80, 32, 3, NOT_SUPPORTED),
            (80, 64, 4, NOT_SUPPORTED),
        ] {
            let encoded = encode(address, [40, 70], stride, [columns, 64], swizzle);
            assert_eq!(encoded, Err(code), "{stride} bytes, {columns} columns, swizzle {swizzle}");
        }

        // Arguments that `encode` has no place for: where to, data type, element strides, missing arrays.
        let mut maps = [RawTensorMap([7; 16]); 2];
        let to = maps.as_mut_ptr();
        let (dims, strides, box_dims, ones, twos) = ([40u64, 70], [80u64], [64u32, 64], [1u32, 1], [1u32, 2]);
        let (dims, strides, box_dims) = (dims.as_ptr(), strides.as_ptr(), box_dims.as_ptr());
        let (ones, twos, null) = (ones.as_ptr(), twos.as_ptr(), std::ptr::null());
        let calls = [
            (to, 6, dims, strides, ones, 0),
            (to.wrapping_byte_add(32), 6, dims, strides, ones, INVALID_VALUE),
            (std::ptr::null_mut(), 6, dims, strides, ones, INVALID_VALUE),
            (to, 10, dims, strides, ones, NOT_SUPPORTED),
            (to, 6, std::ptr::null(), strides, ones, INVALID_VALUE),
            (to, 6, dims, std::ptr::null(), ones, INVALID_VALUE),
            (to, 6, dims, strides, null, INVALID_VALUE),
            (to, 6, dims, strides, twos, NOT_SUPPORTED),
        ];
        for (i, (to, data_type, dims, strides, element_strides, expected)) in calls.into_iter().enumerate() {
            // SAFETY: null, or valid for what is read and written through them.
            let code = unsafe {
                cuTensorMapEncodeTiled(
                    to,
                    data_type,
                    2,
                    address,
                    dims,
                    strides,
                    box_dims,
                    element_strides,
                    0,
                    3,
                    3,
                    0,
                )
            };
            assert_eq!(code, expected, "call {i}");
        }
        assert_eq!(maps[1], RawTensorMap([7; 16]), "nothing is written elsewhere");
    });
    assert_wrote(text, &["no tensor map: the tensor's stride of 88 bytes is no multiple of 16"]);
}

/// Launches a product with a map of W that is wrong.
fn launch_with_map_of_w(map: impl FnOnce(u64) -> [u64; 16], expected: CudaError) {
    let (module, stream) = (hopper::module().expect("PTX"), stream());
    let (function, kernel) = hopper::gemm(&module);
    let product = Product::new(0);
    let mut params = tensor_params(&product, kernel, 1);
    params.maps.w.0 = map(product.w.as_device_ptr().as_raw());
    let code = Config::of(kernel, GRID, &[]).launch(&function, &stream, &params);
    assert_eq!(code, 0, "a launch says nothing yet");
    assert_eq!(stream.synchronize(), Err(expected));
}

#[test]
fn a_map_that_is_none_is_a_fault_of_the_launch() {
    let text = on_device(this_test!(), &[HOPPER], || {
        launch_with_map_of_w(|_| [0; 16], CudaError::LaunchFailed);
    });
    assert_wrote(text, &["sm90_gemm_64x64, CTA ", "these 128 bytes are no tensor map"]);
}

#[test]
fn a_map_that_leaves_its_memory_is_an_illegal_address() {
    let text = on_device(this_test!(), &[HOPPER], || {
        let one_row_too_many = |address| {
            let map = encode(address, [40, 73], 80, [64, 64], 3);
            map.expect("the driver does not know better").0
        };
        launch_with_map_of_w(one_row_too_many, CudaError::IllegalAddress);
    });
    assert_wrote(text, &["sm90_gemm_64x64, CTA ", "out of bounds"]);
}

/// What goes from one layer to the next: y of the first is x of the second. A programmatic launch overlaps
/// the one before it, and is ordered behind that by `griddepcontrol.wait` alone.
#[test]
fn programmatic_launches_overlap_and_wait() {
    for seed in ["0", "1", "2", "3"] {
        let text = on_device(this_test!(), &[HOPPER, ("SEED", seed), ("TRACE", "1")], || {
            let (module, stream) = (hopper::module().expect("PTX"), stream());
            let (function, kernel) = hopper::gemm(&module);
            let product = Product::new(1);
            let params = tensor_params(&product, kernel, 1);
            for attributes in [&[][..], &[PROGRAMMATIC], &[PROGRAMMATIC]] {
                // All write the same y.
                let code = Config::of(kernel, GRID, attributes).launch(&function, &stream, &params);
                assert_eq!(code, 0);
            }
            stream.synchronize().expect("no race: they wait");
            product.assert_right();
        });
        let name = "sm90_gemm_64x64 (work";
        let run = format!(
            "run 0: {name} 2) of 4 CTAs, {name} 3) of 4 CTAs, overlapping, {name} 4) of 4 CTAs, \
                overlapping, seed"
        );
        assert_wrote(text, &[&run]);
    }
}

/// A kernel that does not wait races with the one before it, when it may overlap that: the kernels for
/// compute capability 8.0 do not know how to wait.
#[test]
fn a_programmatic_launch_that_does_not_wait_is_a_race() {
    let text = on_device(this_test!(), &[HOPPER], || {
        let (module, stream) = (common::module().expect("PTX"), stream());
        let function = module.get_function("gemm_64x64").expect("ours");
        let (product, kernel) = (Product::new(0), common::kernel("gemm_64x64"));
        let launch = |attributes: &[_]| {
            let code = Config::of(kernel, 3, attributes).launch(&function, &stream, &product.params);
            assert_eq!(code, 0);
        };
        launch(&[]);
        launch(&[(PROGRAMMATIC.0, [0; 3])]);
        stream.synchronize().expect("one after the other");
        launch(&[PROGRAMMATIC]);
        stream.synchronize().expect("nothing to overlap");
        launch(&[PROGRAMMATIC]);
        launch(&[]);
        stream.synchronize().expect("the second does not overlap");
        launch(&[]);
        launch(&[PROGRAMMATIC]);
        assert_eq!(stream.synchronize(), Err(CudaError::LaunchFailed));
    });
    assert_wrote(text, &["race: "]);
}

/// Only a launch directly before it in its own stream is overlapped.
#[test]
fn what_lies_between_is_waited_for() {
    on_device(this_test!(), &[HOPPER], || {
        let (module, stream, other) = (common::module().expect("PTX"), stream(), stream());
        let function = module.get_function("gemm_64x64").expect("ours");
        let (product, kernel) = (Product::new(0), common::kernel("gemm_64x64"));
        let launch = |stream: &_, attributes: &[_]| {
            let code = Config::of(kernel, 3, attributes).launch(&function, stream, &product.params);
            assert_eq!(code, 0);
        };
        let scratch = DeviceBuffer::<u8>::zeroed(16).expect("memory");
        launch(&stream, &[]);
        // SAFETY: within the buffer.
        common::ok(unsafe {
            sys::cuMemsetD8Async(scratch.as_device_ptr().as_raw(), 0, 16, stream.as_inner())
        });
        launch(&stream, &[PROGRAMMATIC]);
        stream.synchronize().expect("a fill lies between");

        let event = cust::event::Event::new(cust::event::EventFlags::DISABLE_TIMING).expect("an event");
        launch(&stream, &[]);
        event.record(&stream).expect("recorded");
        other.wait_event(event, cust::stream::StreamWaitEventFlags::DEFAULT).expect("waits");
        launch(&other, &[PROGRAMMATIC]);
        other.synchronize().expect("an event lies between");
        product.assert_right();
    });
}

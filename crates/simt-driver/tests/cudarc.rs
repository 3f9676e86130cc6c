//! cudarc as a client: it finds the driver by the name libcuda, and knows nothing of it.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use std::{ffi::c_void, sync::Arc};

use common::{assert_wrote, this_test, with_driver};
use cudarc::{
    driver::{
        CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DriverError, LaunchConfig,
        PushKernelArg, sys,
    },
    nvrtc::Ptx,
};

/// y\[i\] = scale x\[i\] + the rank of its CTA in the cluster, for i below n.
const PTX: &str = "
.version 8.0
.target sm_90
.address_size 64
.visible .entry scale(.param .u64 x, .param .u64 y, .param .f32 scale, .param .u32 n)
{
    .reg .pred %out;
    .reg .b32 %i, %cta, %lanes, %n, %rank;
    .reg .f32 %v, %scale, %add;
    .reg .b64 %x, %y;
    mov.u32 %cta, %ctaid.x;
    mov.u32 %lanes, %ntid.x;
    mov.u32 %i, %tid.x;
    mad.lo.u32 %i, %cta, %lanes, %i;
    ld.param.u32 %n, [n];
    setp.ge.u32 %out, %i, %n;
    @%out ret;
    ld.param.u64 %x, [x];
    ld.param.u64 %y, [y];
    ld.param.f32 %scale, [scale];
    mad.wide.u32 %x, %i, 4, %x;
    mad.wide.u32 %y, %i, 4, %y;
    mov.u32 %rank, %cluster_ctarank;
    cvt.rn.f32.u32 %add, %rank;
    ld.global.f32 %v, [%x];
    fma.rn.f32 %v, %v, %scale, %add;
    st.global.f32 [%y], %v;
    ret;
}
";

const N: usize = 200;
const LANES: u32 = 64;

/// A context, a stream of its own, and the kernel.
fn open() -> (Arc<CudaContext>, Arc<CudaStream>, CudaFunction) {
    let context = CudaContext::new(0).expect("a device");
    assert_eq!(context.compute_capability(), Ok((9, 0)));
    // Events of cudarc's own would spoil a capture.
    // SAFETY: each test uses one stream alone.
    unsafe { context.disable_event_tracking() };
    let module = context.load_module(Ptx::from_src(PTX)).expect("it is PTX");
    let function = module.load_function("scale").expect("it is there");
    let stream = context.new_stream().expect("a stream");
    (context, stream, function)
}

fn input() -> Vec<f32> {
    (0..N).map(|i| i as f32 - 100.0).collect()
}

/// scale x, plus the rank in clusters of so many.
fn expected(scale: f32, cluster: usize) -> Vec<f32> {
    let rank = |i: usize| (i / LANES as usize % cluster) as f32;
    input().iter().enumerate().map(|(i, x)| scale * x + rank(i)).collect()
}

fn grid() -> LaunchConfig {
    LaunchConfig { grid_dim: (4, 1, 1), block_dim: (LANES, 1, 1), shared_mem_bytes: 0 }
}

/// Launches the kernel as cudarc does.
fn launch(
    stream: &CudaStream,
    function: &CudaFunction,
    x: &CudaSlice<f32>,
    y: &mut CudaSlice<f32>,
    scale: f32,
) -> Result<(), DriverError> {
    let n = N as u32;
    let mut launch = stream.launch_builder(function);
    launch.arg(x).arg(y).arg(&scale).arg(&n);
    // SAFETY: these are its parameters, and both have n elements.
    unsafe { launch.launch(grid()) }.map(|_| ())
}

#[test]
fn it_allocates_copies_and_launches() {
    with_driver(this_test!(), &[("CAPABILITY", "9.0")], || {
        let (_context, stream, function) = open();
        let x = stream.clone_htod(&input()).expect("room");
        let mut y = stream.alloc_zeros::<f32>(N).expect("room");
        launch(&stream, &function, &x, &mut y, 2.0).expect("a launch");
        assert_eq!(stream.clone_dtoh(&y).expect("no fault"), expected(2.0, 1));
        let mut copy = stream.alloc_zeros::<f32>(N).expect("room");
        stream.memcpy_dtod(&y, &mut copy).expect("a copy");
        assert_eq!(stream.clone_dtoh(&copy).expect("no fault"), expected(2.0, 1));
        stream.synchronize().expect("no fault");
    });
}

#[test]
fn it_launches_in_clusters() {
    with_driver(this_test!(), &[("CAPABILITY", "9.0")], || {
        let (_context, stream, function) = open();
        let x = stream.clone_htod(&input()).expect("room");
        let mut y = stream.alloc_zeros::<f32>(N).expect("room");
        // cudarc's own launch has no attributes.
        let mut cluster = sys::CUlaunchAttribute {
            id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION,
            pad: [0; 4],
            value: sys::CUlaunchAttributeValue { pad: [0; 64] },
        };
        cluster.value.clusterDim = sys::CUlaunchAttributeValue_union__bindgen_ty_1 { x: 2, y: 1, z: 1 };
        let config = sys::CUlaunchConfig {
            gridDimX: 4,
            gridDimY: 1,
            gridDimZ: 1,
            blockDimX: LANES,
            blockDimY: 1,
            blockDimZ: 1,
            sharedMemBytes: 0,
            hStream: stream.cu_stream(),
            attrs: &raw mut cluster,
            numAttrs: 1,
        };
        {
            let ((x, _x), (y, _y)) = (x.device_ptr(&stream), y.device_ptr_mut(&stream));
            let (scale, n) = (3.0f32, N as u32);
            let mut parameters: [*mut c_void; 4] = [
                (&raw const x).cast_mut().cast(),
                (&raw const y).cast_mut().cast(),
                (&raw const scale).cast_mut().cast(),
                (&raw const n).cast_mut().cast(),
            ];
            // SAFETY: the configuration is valid, and these are the kernel's parameters.
            let status = unsafe {
                sys::cuLaunchKernelEx(
                    &raw const config,
                    function.cu_function(),
                    parameters.as_mut_ptr(),
                    std::ptr::null_mut(),
                )
            };
            assert_eq!(status, sys::CUresult::CUDA_SUCCESS);
        }
        assert_eq!(stream.clone_dtoh(&y).expect("no fault"), expected(3.0, 2));
    });
}

#[test]
fn it_captures_a_graph() {
    with_driver(this_test!(), &[("CAPABILITY", "9.0")], || {
        let (_context, stream, function) = open();
        let x = stream.clone_htod(&input()).expect("room");
        let (mut y, mut z) =
            (stream.alloc_zeros::<f32>(N).expect("room"), stream.alloc_zeros::<f32>(N).expect("room"));
        stream.synchronize().expect("no fault");

        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).expect("a capture");
        let active = sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE;
        assert_eq!(stream.capture_status(), Ok(active));
        launch(&stream, &function, &x, &mut y, 2.0).expect("a launch");
        launch(&stream, &function, &y, &mut z, 0.5).expect("a launch");
        let flags = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(flags).expect("a graph").expect("with nodes");
        assert_eq!(stream.clone_dtoh(&z).expect("no fault"), [0.0; N], "captured is not done");

        for _ in 0..2 {
            stream.memset_zeros(&mut z).expect("a fill");
            graph.launch().expect("a launch");
            assert_eq!(stream.clone_dtoh(&z).expect("no fault"), expected(1.0, 1));
        }
    });
}

/// What a kernel does wrong is an error of what waits for it.
#[test]
fn it_is_told_of_a_fault() {
    let text = with_driver(this_test!(), &[("CAPABILITY", "9.0")], || {
        let (_context, stream, function) = open();
        // SAFETY: it is not read before it is written; that is what the driver finds.
        let x = unsafe { stream.alloc::<f32>(N) }.expect("room");
        let mut y = stream.alloc_zeros::<f32>(N).expect("room");
        launch(&stream, &function, &x, &mut y, 2.0).expect("a launch");
        let failed = DriverError(sys::CUresult::CUDA_ERROR_LAUNCH_FAILED);
        assert_eq!(stream.synchronize(), Err(failed));
    });
    assert_wrote(text, &["ld.global reads", "which nobody wrote"]);
}

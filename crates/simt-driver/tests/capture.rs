//! Stream capture and graphs, through the functions that cust does not wrap.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use std::ptr::null_mut;

use common::{
    Product,
    hopper::{self, Config, PROGRAMMATIC, clusters_of, tensor_params},
    module, non_blocking_stream, ok, on_device, stream, this_test, with_driver, with_gemm,
};
use cust::{
    error::CudaError,
    event::{Event, EventFlags},
    memory::{CopyDestination, DeviceBuffer},
    stream::Stream,
    sys::{self, CUgraph, CUgraphExec, CUresult, CUstreamCaptureMode, CUstreamCaptureStatus},
};

fn begin_in(stream: &Stream, mode: CUstreamCaptureMode) {
    // SAFETY: a stream.
    ok(unsafe { sys::cuStreamBeginCapture_v2(stream.as_inner(), mode) });
}

fn begin(stream: &Stream) {
    begin_in(stream, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL);
}

fn end(stream: &Stream) -> Result<CUgraph, CUresult> {
    let mut graph = null_mut();
    // SAFETY: a stream, and valid for a write.
    match unsafe { sys::cuStreamEndCapture(stream.as_inner(), &mut graph) } {
        CUresult::CUDA_SUCCESS => Ok(graph),
        error => {
            assert!(graph.is_null());
            Err(error)
        }
    }
}

fn instantiate(graph: CUgraph) -> CUgraphExec {
    let mut executable = null_mut();
    // SAFETY: a graph, and valid for a write.
    ok(unsafe { sys::cuGraphInstantiateWithFlags(&mut executable, graph, 0) });
    executable
}

fn launch_graph(executable: CUgraphExec, stream: &Stream) -> CUresult {
    // SAFETY: handles are numbers here, and the driver knows which are executables.
    unsafe { sys::cuGraphLaunch(executable, stream.as_inner()) }
}

fn raw(event: &Event) -> sys::CUevent {
    // SAFETY: cust's `Event` is the handle in a tuple structure of one field.
    unsafe { std::mem::transmute_copy(event) }
}

fn wait(stream: &Stream, event: &Event) {
    // SAFETY: a stream and an event.
    ok(unsafe { sys::cuStreamWaitEvent(stream.as_inner(), raw(event), 0) });
}

fn status(stream: &Stream) -> CUstreamCaptureStatus {
    let mut status = CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE;
    // SAFETY: a stream, and valid for a write of one of the values.
    ok(unsafe { sys::cuStreamIsCapturing(stream.as_inner(), &mut status) });
    status
}

#[test]
fn a_graph_is_replayed_with_other_data() {
    with_gemm(this_test!(), &[], |function| {
        let (mut product, first, second, stream) =
            (Product::new(0), Product::new(1), Product::new(2), stream());
        begin(&stream);
        for _ in 0..3 {
            product.launch(function, &stream).expect("captured");
        }
        assert_eq!(status(&stream), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE);
        let graph = end(&stream).expect("nothing illegal in it");
        assert_eq!(status(&stream), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
        let executable = instantiate(graph);
        // SAFETY: they are not used any more; the executable has a copy.
        ok(unsafe { sys::cuGraphDestroy(graph) });
        let mut replay = |data: &Product| {
            product.x.copy_from(&data.x).expect("as long");
            product.w.copy_from(&data.w).expect("as long");
            ok(launch_graph(executable, &stream));
            stream.synchronize().expect("no fault");
            product.assert_is_product_of(data);
        };
        for data in [&first, &second, &first] {
            replay(data);
        }
        // SAFETY: as above.
        ok(unsafe { sys::cuGraphExecDestroy(executable) });
        let code = launch_graph(executable, &stream);
        assert_eq!(code, CUresult::CUDA_ERROR_INVALID_HANDLE);
    });
}

/// Launches of one executable come after each other, on whichever streams: else they would race for y.
#[test]
fn launches_of_one_graph_do_not_overlap() {
    with_gemm(this_test!(), &[], |function| {
        let (product, first, second) = (Product::new(0), stream(), stream());
        begin(&first);
        product.launch(function, &first).expect("captured");
        let executable = instantiate(end(&first).expect("nothing illegal in it"));
        for stream in [&first, &second] {
            ok(launch_graph(executable, stream));
        }
        second.synchronize().expect("no race");
        product.assert_right();
    });
}

#[test]
fn nothing_runs_while_it_is_captured() {
    with_gemm(this_test!(), &[], |function| {
        let (product, stream) = (Product::new(0), stream());
        begin(&stream);
        product.launch(function, &stream).expect("captured");
        end(&stream).expect("nothing illegal in it");
        stream.synchronize().expect("nothing to wait for");
        assert_eq!(product.result(), Err(CudaError::LaunchFailed), "nobody wrote y");
    });
}

#[test]
fn what_a_capture_forbids_spoils_it() {
    on_device(this_test!(), &[], || {
        let (stream, other) = (stream(), stream());
        let buffer = DeviceBuffer::<u8>::zeroed(16).expect("memory");
        let non_blocking = non_blocking_stream();
        let event = Event::new(EventFlags::DEFAULT).expect("an event");
        event.record(&other).expect("recorded");
        let address = buffer.as_device_ptr().as_raw();
        let mut to = 0u64;
        let mut module = null_mut();
        let ptx = std::ffi::CString::new(common::ptx()).expect("no NUL");
        use CUresult::*;
        type Step<'a> = (&'a str, Box<dyn FnMut() -> CUresult + 'a>);
        // SAFETY: every pointer is valid for what is read or written through it.
        let unsupported: Vec<Step<'_>> = unsafe {
            vec![
                ("allocate", Box::new(|| sys::cuMemAlloc_v2(&mut to, 16))),
                ("free", Box::new(|| sys::cuMemFree_v2(address))),
                ("synchronise", Box::new(|| sys::cuStreamSynchronize(stream.as_inner()))),
                ("synchronise all", Box::new(|| sys::cuCtxSynchronize())),
                ("wait for an event", Box::new(|| sys::cuEventSynchronize(raw(&event)))),
                ("load", Box::new(|| sys::cuModuleLoadData(&mut module, ptx.as_ptr().cast()))),
            ]
        };
        // SAFETY: as above.
        let implicit: Vec<Step<'_>> = unsafe {
            vec![
                ("default stream", Box::new(|| sys::cuMemsetD8Async(address, 0, 16, null_mut()))),
                ("set", Box::new(|| sys::cuMemsetD8_v2(address, 0, 16))),
                ("copy", Box::new(|| sys::cuMemcpyDtoD_v2(address, address + 8, 8))),
            ]
        };
        // SAFETY: as above.
        let isolation: Step<'_> = ("depend on what is not captured", unsafe {
            Box::new(|| sys::cuStreamWaitEvent(stream.as_inner(), raw(&event), 0))
        });
        let steps = unsupported.into_iter().map(|step| (step, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED));
        let steps = steps.chain(implicit.into_iter().map(|step| (step, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)));
        for ((name, mut step), expected) in steps.chain([(isolation, CUDA_ERROR_STREAM_CAPTURE_ISOLATION)]) {
            begin(&stream);
            assert_eq!(step(), expected, "{name}");
            assert_eq!(
                status(&stream),
                CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_INVALIDATED,
                "{name}"
            );
            // SAFETY: within the buffer.
            let more = unsafe { sys::cuMemsetD8Async(address, 0, 16, stream.as_inner()) };
            assert_eq!(more, CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "{name}");
            assert_eq!(end(&stream), Err(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED), "{name}");
        }
        assert_eq!(end(&stream), Err(CUDA_ERROR_ILLEGAL_STATE), "no capture");
        let global = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL;
        // SAFETY: the default stream.
        let code = unsafe { sys::cuStreamBeginCapture_v2(null_mut(), global) };
        assert_eq!(code, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "the default stream");

        // Relaxed, the same calls do not disturb it, nor does work of other streams.
        begin_in(&stream, CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED);
        // SAFETY: valid for a write; within the buffer.
        unsafe {
            ok(sys::cuMemAlloc_v2(&mut to, 16));
            ok(sys::cuMemsetD8Async(to, 0, 16, non_blocking));
            ok(sys::cuMemsetD8Async(address, 1, 16, stream.as_inner()));
            ok(sys::cuStreamSynchronize(non_blocking));
        }
        end(&stream).expect("nothing illegal in it");
    });
}

#[test]
fn streams_join_a_capture_by_events_and_must_come_back() {
    with_gemm(this_test!(), &[("TRACE", "1")], |function| {
        let products = [Product::new(1), Product::new(2)];
        let (first, second) = (stream(), stream());
        let [fork, join] = [(); 2].map(|()| Event::new(EventFlags::DISABLE_TIMING).expect("an event"));
        let capture = |joined: bool| {
            begin(&first);
            fork.record(&first).expect("captured");
            wait(&second, &fork);
            products[0].launch(function, &first).expect("captured");
            products[1].launch(function, &second).expect("captured");
            if joined {
                join.record(&second).expect("captured");
                wait(&first, &join);
            }
            end(&first)
        };
        assert_eq!(capture(false), Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED));
        assert_eq!(status(&second), CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE);
        let executable = instantiate(capture(true).expect("joined"));
        ok(launch_graph(executable, &first));
        first.synchronize().expect("no fault");
        for product in &products {
            product.assert_right();
        }
    });
}

#[test]
fn a_capture_belongs_to_its_thread() {
    with_driver(this_test!(), &[], || {
        let context = cust::quick_init().expect("a driver");
        let stream = stream();
        begin(&stream);
        let other = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                cust::context::CurrentContext::set_current(&context).expect("it is there");
                end(&stream).map(|_| ())
            });
            thread.join().expect("no panic")
        });
        assert_eq!(other, Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD));
        assert_eq!(end(&stream), Err(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED));
    });
}

/// A launch keeps its attributes in a graph: clusters, and that it may overlap the one before it.
#[test]
fn a_graph_keeps_attributes() {
    let text = on_device(this_test!(), &[("CAPABILITY", "9.0"), ("TRACE", "1")], || {
        let (module, stream) = (hopper::module().expect("PTX"), stream());
        let (function, kernel) = hopper::gemm(&module);
        let (mut product, other) = (Product::new(1), Product::new(2));
        let params = tensor_params(&product, kernel, 2);
        begin(&stream);
        for attributes in [&[clusters_of(2)][..], &[clusters_of(2), PROGRAMMATIC]] {
            let code = Config::of(kernel, 4, attributes).launch(&function, &stream, &params);
            assert_eq!(code, 0, "captured");
        }
        let executable = instantiate(end(&stream).expect("nothing illegal in it"));
        for data in [&other, &Product::new(3)] {
            product.x.copy_from(&data.x).expect("as long");
            product.w.copy_from(&data.w).expect("as long");
            ok(launch_graph(executable, &stream));
            stream.synchronize().expect("no fault");
            product.assert_is_product_of(data);
        }

        begin(&stream);
        // SAFETY: an executable and a stream.
        unsafe {
            ok(sys::cuMemsetD16Async(product.y.as_device_ptr().as_raw(), 0, 1, stream.as_inner()));
            ok(sys::cuGraphLaunch(executable, stream.as_inner()));
        }
        let outer = instantiate(end(&stream).expect("nothing illegal in it"));
        ok(launch_graph(outer, &stream));
        stream.synchronize().expect("no fault");
    });
    let both = |run, work| {
        let name = "sm90_gemm_64x64 (work";
        let clusters = "of 4 CTAs in clusters of 2";
        format!("run {run}: {name} {work}) {clusters}, {name} {}) {clusters}, overlapping, seed", work + 1)
    };
    let Some(text) = text else { return };
    // Twice by itself, once inside another graph.
    for run in 0..3 {
        assert!((0..30).any(|work| text.contains(&both(run, work))), "run {run}: {text}");
    }
}

/// Who does not wait races in a graph as it does in a stream; and only there where the capture has it so.
#[test]
fn launches_overlap_in_a_graph_as_captured() {
    let text = on_device(this_test!(), &[("CAPABILITY", "9.0")], || {
        let (module, stream, other) = (module().expect("PTX"), stream(), stream());
        let function = module.get_function("gemm_64x64").expect("ours");
        let (product, kernel) = (Product::new(0), common::kernel("gemm_64x64"));
        let launch = |stream: &Stream, attributes: &[_]| {
            let code = Config::of(kernel, 3, attributes).launch(&function, stream, &product.params);
            assert_eq!(code, 0, "captured");
        };
        let run = |graph| {
            let executable = instantiate(graph);
            ok(launch_graph(executable, &stream));
            stream.synchronize()
        };
        // By way of an event.
        let [fork, join] = [(); 2].map(|()| Event::new(EventFlags::DISABLE_TIMING).expect("an event"));
        begin(&stream);
        launch(&stream, &[]);
        fork.record(&stream).expect("captured");
        wait(&other, &fork);
        launch(&other, &[PROGRAMMATIC]);
        join.record(&other).expect("captured");
        wait(&stream, &join);
        launch(&stream, &[PROGRAMMATIC]);
        assert_eq!(run(end(&stream).expect("nothing illegal in it")), Ok(()), "events lie between");

        // A graph, then a launch of the stream's own; both in a stream and in another capture.
        begin(&stream);
        launch(&stream, &[PROGRAMMATIC]);
        let executable = instantiate(end(&stream).expect("nothing illegal in it"));
        launch(&stream, &[]);
        ok(launch_graph(executable, &stream));
        launch(&stream, &[PROGRAMMATIC]);
        stream.synchronize().expect("graphs do not overlap");
        begin(&stream);
        launch(&stream, &[]);
        ok(launch_graph(executable, &stream));
        launch(&stream, &[PROGRAMMATIC]);
        assert_eq!(run(end(&stream).expect("nothing illegal in it")), Ok(()), "nor inside one");
        launch(&stream, &[PROGRAMMATIC]);
        stream.synchronize().expect("nor does what comes behind one");
        product.assert_right();

        begin(&stream);
        launch(&stream, &[]);
        launch(&stream, &[PROGRAMMATIC]);
        let graph = end(&stream).expect("nothing illegal in it");
        assert_eq!(run(graph), Err(CudaError::LaunchFailed));
    });
    common::assert_wrote(text, &["race: "]);
}

//! Kernels, launched through cust: results, checks, faults, order.

#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use common::{
    Product, assert_wrote, kernel, module, non_blocking_stream, ok, on_device, stream, this_test, with_gemm,
};
use cust::{
    context::CurrentContext,
    error::CudaError,
    event::{Event, EventFlags},
    memory::{DeviceBuffer, GpuBuffer},
    stream::StreamWaitEventFlags,
    sys,
};
use fused_lora_kernels::Global;

#[test]
fn a_product_is_right() {
    for (slots, seed) in [("1", "0"), ("5", "18446744073709551615"), ("", "7")] {
        let text = with_gemm(this_test!(), &[("SLOTS", slots), ("SEED", seed), ("TRACE", "1")], |function| {
            let (product, stream) = (Product::new(3), stream());
            product.launch(function, &stream).expect("a launch");
            stream.synchronize().expect("no fault");
            product.assert_right();
        });
        assert_wrote(text, &[&format!("seed {seed}, slots {slots}")]);
    }
}

#[test]
fn launches_are_checked() {
    let text = on_device(this_test!(), &[("SHARED", "101376")], || {
        let module = module().expect("PTX");
        let function = module.get_function("gemm_128x128").expect("ours");
        let kernel = kernel("gemm_128x128");
        assert!(kernel.shared_bytes > 48 * 1024, "else the test tests nothing");
        let (product, stream) = (Product::new(0), stream());
        let params = &raw const product.params;
        let launch = |grid: (u32, u32), threads: u32, shared: u32| {
            // SAFETY: the kernel takes one `Params`.
            unsafe { stream.launch(&function, grid, threads, shared, &[params.cast_mut().cast()]) }
        };
        let invalid = Err(CudaError::InvalidValue);
        assert_eq!(launch((1, 1), kernel.threads, kernel.shared_bytes), invalid, "not opted in");
        let set = |bytes: u32| {
            let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function of a loaded module.
            unsafe { sys::cuFuncSetAttribute(function.to_raw(), attribute, bytes as i32) }
        };
        assert_eq!(set(101_377), sys::CUresult::CUDA_ERROR_INVALID_VALUE, "beyond the device's limit");
        ok(set(kernel.shared_bytes));
        assert_eq!(launch((1, 1), kernel.threads, kernel.shared_bytes + 1), invalid, "more than allowed");
        assert_eq!(launch((1, 1), kernel.threads * 2, kernel.shared_bytes), invalid, "larger CTAs");
        assert_eq!(launch((0, 1), kernel.threads, kernel.shared_bytes), invalid, "no CTAs");
        assert_eq!(launch((1, 65_536), kernel.threads, kernel.shared_bytes), invalid, "too high");
        launch((1, 1), kernel.threads, kernel.shared_bytes).expect("nothing wrong with it");
        product.assert_right();
    });
    assert_wrote(text, &["gemm_128x128 not launched: CTAs of "]);
}

#[test]
fn a_fault_is_reported_when_waited_for_and_stays() {
    let text = with_gemm(this_test!(), &[], |function| {
        let (mut product, stream) = (Product::new(0), stream());
        product.params.m += 1;
        product.launch(function, &stream).expect("a launch says nothing yet");
        assert_eq!(stream.synchronize(), Err(CudaError::IllegalAddress));
        assert_eq!(stream.synchronize(), Err(CudaError::IllegalAddress), "sticky");
        assert_eq!(DeviceBuffer::from_slice(&[1u8]).map(|_| ()), Err(CudaError::IllegalAddress));
        assert_eq!(product.launch(function, &stream), Err(CudaError::IllegalAddress));
        assert_eq!(CudaError::IllegalAddress.to_string(), "\"an illegal memory access was encountered\"");
    });
    // Kernel, CTA, lane, source line: the machine's report.
    assert_wrote(
        text,
        &[
            "ILLEGAL_ADDRESS (700): gemm_64x64, CTA ",
            "out of bounds",
            "in run 0: gemm_64x64 of 3 CTAs, seed 0, slots 1",
        ],
    );
}

#[test]
fn reading_freed_memory_is_an_illegal_address() {
    let text = with_gemm(this_test!(), &[], |function| {
        let (mut product, stream) = (Product::new(0), stream());
        product.x = DeviceBuffer::zeroed(1).expect("memory");
        product.launch(function, &stream).expect("a launch says nothing yet");
        assert_eq!(stream.synchronize(), Err(CudaError::IllegalAddress));
    });
    assert_wrote(text, &["freed allocation 0"]);
}

#[test]
fn reading_poison_is_a_failed_launch() {
    with_gemm(this_test!(), &[], |function| {
        let (mut product, stream) = (Product::new(0), stream());
        // SAFETY: that is the question.
        let poisoned = unsafe { DeviceBuffer::<u16>::uninitialized(product.x.len()) }.expect("memory");
        product.params.x = Global::from_address(poisoned.as_device_ptr().as_raw());
        product.launch(function, &stream).expect("a launch says nothing yet");
        assert_eq!(stream.synchronize(), Err(CudaError::LaunchFailed));
    });
}

/// As a fault of its own would, it shows at who waits; other kernels run.
#[test]
fn a_kernel_that_is_broken_on_purpose_breaks_the_context() {
    let text = on_device(this_test!(), &[("BROKEN", "gemm_64x128:hang,gemm_64x64:fault")], || {
        let module = module().expect("PTX");
        let [whole, broken] =
            ["gemm_64x64_any", "gemm_64x64"].map(|name| module.get_function(name).expect("ours"));
        let (product, stream) = (Product::new(0), stream());
        product.launch(&whole, &stream).expect("a launch");
        stream.synchronize().expect("no fault");
        product.assert_right();
        product.launch(&broken, &stream).expect("a launch says nothing yet");
        assert_eq!(stream.synchronize(), Err(CudaError::LaunchFailed));
    });
    assert_wrote(text, &["gemm_64x64 is broken on purpose", "in run 1: gemm_64x64 of 3 CTAs"]);
}

/// Two launches on one y: without an order a race, which the machine sees only if they run beside each other.
#[test]
fn streams_run_beside_each_other() {
    let text = with_gemm(this_test!(), &[], |function| {
        let (product, first, second) = (Product::new(0), stream(), stream());
        product.launch(function, &first).expect("a launch");
        product.launch(function, &second).expect("a launch");
        assert_eq!(first.synchronize(), Err(CudaError::LaunchFailed));
    });
    assert_wrote(text, &["race: "]);
}

#[test]
fn streams_with_memory_of_their_own_do_not_disturb_each_other() {
    let text = with_gemm(this_test!(), &[("TRACE", "1")], |function| {
        let products = [Product::new(1), Product::new(2)];
        let streams = [stream(), stream()];
        for (product, stream) in products.iter().zip(&streams) {
            product.launch(function, stream).expect("a launch");
        }
        for (product, stream) in products.iter().zip(&streams) {
            stream.synchronize().expect("no fault");
            product.assert_right();
        }
    });
    assert_wrote(text, &["run 0: gemm_64x64 (work 4) of 3 CTAs, gemm_64x64 (work 5) of 3 CTAs"]);
}

#[test]
fn events_order_streams() {
    let text = with_gemm(this_test!(), &[("TRACE", "1"), ("SEED", "7")], |function| {
        let (product, first, second) = (Product::new(0), stream(), stream());
        let event = Event::new(EventFlags::DEFAULT).expect("an event");
        product.launch(function, &first).expect("a launch");
        event.record(&first).expect("recorded");
        second.wait_event(event, StreamWaitEventFlags::DEFAULT).expect("waits");
        product.launch(function, &second).expect("a launch");
        second.synchronize().expect("no race");
        product.assert_right();
    });
    // Each run has a schedule of its own.
    let runs = ["run 0: gemm_64x64 of 3 CTAs, seed 7,", "run 1: gemm_64x64 of 3 CTAs, seed 8,"];
    assert_wrote(text, &runs);
}

#[test]
fn nothing_is_done_before_it_is_waited_for() {
    with_gemm(this_test!(), &[], |function| {
        let (product, stream) = (Product::new(0), stream());
        let [start, end] = [(); 2].map(|()| Event::new(EventFlags::DEFAULT).expect("an event"));
        assert_eq!(end.synchronize(), Ok(()), "never recorded");
        start.record(&stream).expect("recorded");
        product.launch(function, &stream).expect("a launch");
        end.record(&stream).expect("recorded");
        assert_eq!(end.elapsed_time_f32(&start), Err(CudaError::NotReady));
        end.synchronize().expect("no fault");
        let milliseconds = end.elapsed_time_f32(&start).expect("both are done");
        assert!(milliseconds > 0.0 && milliseconds < 60_000.0, "{milliseconds}");
        product.assert_right();
    });
}

/// A copy without a stream waits for cust's streams, which are blocking, and not for one that is not.
#[test]
fn the_default_stream_waits_for_blocking_streams_only() {
    with_gemm(this_test!(), &[], |function| {
        let (product, blocking) = (Product::new(0), stream());
        product.launch(function, &blocking).expect("a launch");
        product.assert_right();

        let other = Product::new(1);
        ok(other.launch_raw(function, non_blocking_stream()));
        assert_eq!(other.result(), Err(CudaError::LaunchFailed), "nobody wrote it yet");
    });
}

/// Nor does a stream that is not blocking wait for the default stream: two launches on one y race.
#[test]
fn non_blocking_streams_do_not_wait_for_the_default_stream() {
    with_gemm(this_test!(), &[], |function| {
        let product = Product::new(0);
        ok(product.launch_raw(function, std::ptr::null_mut()));
        product.launch(function, &stream()).expect("a launch");
        product.result().expect("the default stream, then a blocking one: no race");
        ok(product.launch_raw(function, std::ptr::null_mut()));
        ok(product.launch_raw(function, non_blocking_stream()));
        assert_eq!(CurrentContext::synchronize(), Err(CudaError::LaunchFailed));
    });
}

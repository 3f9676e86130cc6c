//! What the tests share: a process of their own with the driver loaded, and a product to compute.
//!
//! A driver is chosen once in a process and breaks once and for all. So a test runs its body in a child: the
//! same test binary, told to run this one test, with the environment that the test wants.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::{
    path::PathBuf,
    process::{Command, Output},
};

use cust::{
    error::CudaResult,
    function::Function,
    memory::{CopyDestination, DeviceBuffer},
    module::Module,
    stream::{Stream, StreamFlags},
    sys,
};
use fused_lora_kernels::{
    Global,
    params::Params,
    table::{KERNELS, Kernel},
};
use fused_lora_libcuda::LIBRARY_VARIABLE;
use half::f16;

pub(crate) mod hopper;

const CHILD_VARIABLE: &str = "FUSED_LORA_SIMT_DRIVER_TEST_CHILD";

/// The driver, which Cargo builds with this package's tests.
pub(crate) fn library() -> PathBuf {
    let name = "libfused_lora_simt_driver.so";
    let test = std::env::current_exe().expect("a test knows its path");
    // Tests lie in `deps`, the library there or above it.
    let found = test.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("no {name} beside {}", test.display()))
}

/// Runs `body` in a child process with the driver and these variables. `test` is the name of the calling
/// test. Returns what the child wrote; in the child, nothing.
pub(crate) fn with_driver(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    if std::env::var_os(CHILD_VARIABLE).is_some() {
        body();
        return None;
    }
    let mut child = Command::new(std::env::current_exe().expect("a test knows its path"));
    child.args(["--exact", test, "--nocapture"]).env(LIBRARY_VARIABLE, library()).env(CHILD_VARIABLE, "1");
    // For clients that look for the library by its name.
    let folder = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(library(), folder.path().join("libcuda.so")).expect("a link");
    child.env("LD_LIBRARY_PATH", folder.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FUSED_LORA_SIMT_") && name != CHILD_VARIABLE {
            child.env_remove(name);
        }
    }
    for (name, value) in variables {
        child.env(format!("FUSED_LORA_SIMT_{name}"), value);
    }
    let Output { status, stdout, stderr } = child.output().expect("a test binary can be run again");
    let text = format!("{}\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    // A misspelt name would run no test and succeed.
    assert!(status.success() && text.contains("1 passed"), "child of {test}: {status}\n{text}");
    Some(text)
}

/// The same with a context.
pub(crate) fn on_device(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    with_driver(test, variables, || {
        let _context = cust::quick_init().expect("a driver");
        body();
    })
}

/// The same with the kernel that [`Product`] wants.
pub(crate) fn with_gemm(
    test: &str,
    variables: &[(&str, &str)],
    body: impl FnOnce(&Function<'_>),
) -> Option<String> {
    on_device(test, variables, || {
        let module = module().expect("PTX");
        body(&module.get_function("gemm_64x64").expect("ours"));
    })
}

/// Checks that a child wrote all of these; in the child, nothing.
#[track_caller]
pub(crate) fn assert_wrote(text: Option<String>, parts: &[&str]) {
    let Some(text) = text else { return };
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// The name of the calling test, as the test harness knows it.
macro_rules! this_test {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        let name = name.strip_suffix("::here").expect("it is called so");
        name.split_once("::").expect("the crate's name comes first").1
    }};
}
pub(crate) use this_test;

/// The PTX that is shipped for compute capability 8.0.
pub(crate) fn ptx() -> &'static str {
    fused_lora_kernels::ptx::SM80
}

pub(crate) fn module() -> CudaResult<Module> {
    Module::from_ptx(ptx(), &[])
}

pub(crate) fn stream() -> Stream {
    Stream::new(StreamFlags::DEFAULT, None).expect("a stream")
}

pub(crate) fn kernel(name: &str) -> &'static Kernel {
    KERNELS.iter().find(|kernel| kernel.name == name).expect("a kernel of ours")
}

/// A stream that the default stream does not wait for, nor it for that; cust makes none.
pub(crate) fn non_blocking_stream() -> sys::CUstream {
    let mut stream = std::ptr::null_mut();
    let flags = sys::CUstream_flags::CU_STREAM_NON_BLOCKING as u32;
    // SAFETY: valid for a write.
    ok(unsafe { sys::cuStreamCreate(&mut stream, flags) });
    stream
}

/// A result as cust makes it of a code, for functions that it does not wrap.
#[track_caller]
pub(crate) fn ok(code: sys::CUresult) {
    assert_eq!(code, sys::CUresult::CUDA_SUCCESS);
}

/// y = x Wᵀ on the device, and what must come out.
pub(crate) struct Product {
    pub(crate) x: DeviceBuffer<u16>,
    pub(crate) w: DeviceBuffer<u16>,
    pub(crate) y: DeviceBuffer<u16>,
    pub(crate) params: Params,
    pub(crate) expected: Vec<f32>,
}

pub(crate) const M: usize = 70;
pub(crate) const N: usize = 72;
pub(crate) const K: usize = 40;

impl Product {
    /// Values differ by `seed`. All are small integers, so that the product is exact.
    pub(crate) fn new(seed: usize) -> Self {
        let mut state = seed as u64;
        let mut values = |n: usize| -> Vec<u16> {
            let mut value = || {
                // Knuth's MMIX generator; the upper bits are the random ones.
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                f16::from_f32((state >> 61) as f32 - 3.0).to_bits()
            };
            (0..n).map(|_| value()).collect()
        };
        let (x, w) = (values(M * K), values(N * K));
        let float = |bits: u16| f16::from_bits(bits).to_f32();
        let dot = |i: usize, j: usize| (0..K).map(|k| float(x[i * K + k]) * float(w[j * K + k])).sum();
        let expected = (0..M * N).map(|i| dot(i / N, i % N)).collect();
        let (x, w) = (buffer(&x), buffer(&w));
        // SAFETY: written before it is read: by the product.
        let y = unsafe { DeviceBuffer::uninitialized(M * N) }.expect("memory");
        let mut product = Self { x, w, y, params: Params::default(), expected };
        product.params = Params {
            x: Global::from_address(product.x.as_device_ptr().as_raw()),
            w: Global::from_address(product.w.as_device_ptr().as_raw()),
            y: Global::from_address(product.y.as_device_ptr().as_raw()),
            m: M as u32,
            n: N as u32,
            k: K as u32,
            ldx: K as u32,
            ldw: K as u32,
            ldy: N as u32,
            ..Params::default()
        };
        product
    }

    /// Launches it.
    pub(crate) fn launch(&self, function: &Function<'_>, stream: &Stream) -> CudaResult<()> {
        let kernel = kernel("gemm_64x64");
        let params = &raw const self.params;
        // SAFETY: the kernel takes one `Params`, and the driver checks what that says.
        unsafe {
            stream.launch(function, 3, kernel.threads, kernel.shared_bytes, &[params.cast_mut().cast()])
        }
    }

    /// Launches it on a stream that cust has no type for.
    pub(crate) fn launch_raw(&self, function: &Function<'_>, stream: sys::CUstream) -> sys::CUresult {
        let Kernel { threads, shared_bytes, .. } = *kernel("gemm_64x64");
        let mut parameters = [(&raw const self.params).cast_mut().cast()];
        let (function, parameters) = (function.to_raw(), parameters.as_mut_ptr());
        let extra = std::ptr::null_mut();
        // SAFETY: the kernel takes one `Params`, and the driver checks what that says.
        unsafe {
            sys::cuLaunchKernel(function, 3, 1, 1, threads, 1, 1, shared_bytes, stream, parameters, extra)
        }
    }

    /// Checks what is in y.
    #[track_caller]
    pub(crate) fn assert_right(&self) {
        self.assert_is_product_of(self);
    }

    /// Checks y against the product of other data.
    #[track_caller]
    pub(crate) fn assert_is_product_of(&self, data: &Self) {
        let y = self.result().expect("written");
        let wrong: Vec<_> = (0..M * N).filter(|&i| y[i] != data.expected[i]).collect();
        if let Some(&i) = wrong.first() {
            let (row, column) = (i / N, i % N);
            panic!(
                "{} of {} wrong, first y[{row}, {column}] = {}, not {}",
                wrong.len(),
                M * N,
                y[i],
                data.expected[i]
            );
        }
    }

    /// What is in y.
    pub(crate) fn result(&self) -> CudaResult<Vec<f32>> {
        let mut y = vec![0u16; M * N];
        self.y.copy_to(&mut y)?;
        Ok(y.into_iter().map(|bits| f16::from_bits(bits).to_f32()).collect())
    }
}

pub(crate) fn buffer(values: &[u16]) -> DeviceBuffer<u16> {
    DeviceBuffer::from_slice(values).expect("memory")
}

//! The calls of cuBLASLt against a double of it that computes on the host. No GPU: addresses are the host's.

use std::path::Path;
use std::process::{Command, Output};

use std::cell::RefCell;
use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora::cpu::Simd;
use fused_lora_benches::check::{Wrong, check};
use fused_lora_benches::linear::Library;
use fused_lora_benches::linear::cpu::{Cpu, Ground, theirs, this_library};
use fused_lora_benches::method::What;
use fused_lora_benches::operands::{Layout, on_host as on_host_operands};
use fused_lora_benches::settings::Cache;
use fused_lora_benches::size::Size;
use fused_lora_benches::suite::Suite as _;
use fused_lora_records::Workload;
use half::f16;

use crate::gpu::library::{Handle, Missing};
use crate::gpu::matmul::{Addresses, Matmul, Scratch};
use crate::gpu::product::Product;
use crate::gpu::steps::{Places, Sizes, padded, steps};
use crate::gpu::weights::on_host;

/// In the environment of a test that runs in a process of its own.
const CHILD: &str = "FUSED_LORA_BENCHES_TEST_CHILD";

/// This test again, in a process that finds the double where it looks for the library.
fn with_double(folder: &Path, test: &str, variables: &[(&str, &str)]) -> Output {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu/testing/fake_cublaslt.rs");
    let built = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2021", "--crate-type", "cdylib", "-C", "opt-level=2", "-o"])
        .arg(folder.join("libcublasLt.so"))
        .arg(source)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("gpu::testing::{test}")])
        .env("LD_LIBRARY_PATH", folder)
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap()
}

fn assert_passed(output: &Output) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
}

/// The steps of a forward pass, on the host.
fn double() -> Library<Ground> {
    Library {
        name: Box::new(|strategy| format!("double/{strategy}")),
        strategies: theirs,
        make: Box::new(|ground, strategy, rank| {
            let rank = if strategy == Strategy::Base { 0 } else { rank };
            let linears = ground.weights.slots(1)[0].iter();
            let weights: Vec<_> =
                linears.map(|linear| (Rc::clone(&linear.w), on_host(linear, rank))).collect();
            let scratch = RefCell::new(vec![0u8; 1 << 20]);
            Ok(on_host_operands(&ground.operands, ground.cache, Layout::RowMajor, move |_, tokens| {
                let handle = Handle::new()?;
                assert_eq!(handle.version(), 129_900, "the double");
                let address = |values: &[f16]| values.as_ptr() as u64;
                for ((w, (a, b)), tokens) in weights.iter().zip(tokens) {
                    let ((n, k), m) = (w.dim(), tokens.x.nrows());
                    // h is only written before it is read.
                    let mut h = vec![f16::NAN; m * padded(rank)];
                    let places = Places {
                        x: address(tokens.x.to_slice().unwrap()),
                        w: address(w.as_slice().unwrap()),
                        a: address(a.as_slice().unwrap()),
                        b: address(b.as_slice().unwrap()),
                        h: h.as_mut_ptr() as u64,
                        y: tokens.y.as_mut_ptr() as u64,
                    };
                    for step in steps(Sizes { m, n, k, rank: padded(rank) }, places) {
                        let matmul = Matmul::new(step.product)?;
                        let candidates = matmul.candidates(&handle)?;
                        assert_eq!(candidates.len(), 1, "one of three runs within the workspace");
                        let scratch = Scratch(scratch.borrow_mut().as_mut_ptr() as u64);
                        let stream = std::ptr::null_mut();
                        // SAFETY: the double computes at once, on the host's matrices of just these sizes.
                        unsafe {
                            matmul.enqueue(
                                &handle,
                                &candidates[0],
                                step.alpha,
                                step.addresses,
                                scratch,
                                stream,
                            )?;
                        }
                    }
                }
                Ok(())
            }))
        }),
    }
}

/// Shapes, transposes, strides, α and β: all that is asked for has to be right for the result to be.
#[test]
fn what_is_asked_for_is_the_operation() {
    if std::env::var_os(CHILD).is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_passed(&with_double(folder.path(), "what_is_asked_for_is_the_operation", &[]));
        return;
    }
    // K ≠ N in three of its four projections.
    let workload = Workload::by_name("gpt2-medium-linears").unwrap();
    let libraries = vec![this_library("", |_| &[]), double()];
    let mut cpu = Cpu::new(workload, Cache::Cold, Simd::detect().unwrap(), 0, libraries);
    let size = Size { seq_len: 3, batch: 1 };
    let mut methods = cpu.methods(size);
    methods.retain(|method| matches!(method.what, What::Linear(1, _)) && method.rank <= 100);
    assert_eq!(methods.iter().map(|method| method.rank).collect::<Vec<_>>(), [0, 10, 100]);
    let mut calls = cpu.prepare(size, 1, &methods).unwrap();
    for (method, call) in methods.iter().zip(&mut calls) {
        let expected = cpu.expected(size, method).unwrap();
        check(method, &mut **call, &expected).unwrap_or_else(|error| panic!("{error}"));
    }
    // And the check sees the difference that an adapter makes.
    for with_adapter in &methods[1..] {
        let expected = cpu.expected(size, with_adapter).unwrap();
        let error = check(with_adapter, &mut *calls[0], &expected).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { .. }), "{error}");
    }
}

/// Rows with gaps between them, in all three matrices.
#[test]
fn strides_are_the_rows_own() {
    if std::env::var_os(CHILD).is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_passed(&with_double(folder.path(), "strides_are_the_rows_own", &[]));
        return;
    }
    let product =
        Product { x_stride: 7, w_stride: 6, out_stride: 9, ..Product::dense(2, 3, 5) }.accumulating();
    let numbers = |count: usize| (0..count).map(|i| f16::from_f32(i as f32)).collect::<Vec<_>>();
    let (x, w, mut out) = (numbers(2 * 7), numbers(3 * 6), vec![f16::ONE; 2 * 9]);
    let handle = Handle::new().unwrap();
    let matmul = Matmul::new(product).unwrap();
    let algorithm = matmul.candidates(&handle).unwrap()[0];
    let mut scratch = vec![0u8; 1 << 20];
    let addresses = Addresses { x: x.as_ptr() as u64, w: w.as_ptr() as u64, out: out.as_mut_ptr() as u64 };
    // SAFETY: the double computes at once, on the host's matrices of just these sizes.
    unsafe {
        let scratch = Scratch(scratch.as_mut_ptr() as u64);
        matmul.enqueue(&handle, &algorithm, 0.5, addresses, scratch, std::ptr::null_mut()).unwrap();
    }
    for row in 0..2 {
        for column in 0..9 {
            let sum: usize = (0..5).map(|i| (7 * row + i) * (6 * column + i)).sum();
            let expected = if column < 3 { 1.0 + 0.5 * sum as f32 } else { 1.0 };
            assert_eq!(out[9 * row + column], f16::from_f32(expected), "[{row}, {column}]");
        }
    }
}

#[test]
fn a_library_that_does_not_start_is_left_out_by_name() {
    if std::env::var_os(CHILD).is_none() {
        let folder = tempfile::tempdir().unwrap();
        let test = "a_library_that_does_not_start_is_left_out_by_name";
        assert_passed(&with_double(folder.path(), test, &[("FAKE_CUBLASLT_DOES_NOT_START", "1")]));
        return;
    }
    let missing = Handle::new().err().expect("it does not start");
    assert!(matches!(missing, Missing::Start { version: 129_900, .. }), "{missing}");
}

/// Where the real one is installed (no GPU is needed for it), it takes the descriptors.
#[test]
fn the_real_library_takes_the_descriptors() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    if !crate::gpu::library::is_present() {
        eprintln!("skipped: {}", Missing::Library);
        return;
    }
    for product in [Product::dense(128, 4096, 1024), Product::dense(1, 1024, 16).accumulating()] {
        assert_eq!(Matmul::new(product).unwrap().product(), product);
    }
}

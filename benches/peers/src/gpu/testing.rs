//! The calls of cuBLASLt against a double of it that computes on the host. No GPU: addresses are the host's.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use fused_lora::Strategy;
use fused_lora::cpu::Simd;
use fused_lora_benches::check::{Wrong, check};
use fused_lora_benches::executor::LinearSetup;
use fused_lora_benches::linear::weights::Lora;
use fused_lora_benches::linear::{Library, Linears, theirs, this_library};
use fused_lora_benches::method::{Provider, Suite as _};
use fused_lora_benches::operands::{Layout, on_host};
use fused_lora_benches::processor::Processor;
use fused_lora_benches::settings::Settings;
use fused_lora_benches::size::Size;
use fused_lora_records::Workload;
use half::f16;
use ndarray::Array2;

use super::library::{is_present, open, version};
use super::matmul::Matmul;
use super::steps::{Product, padded, steps, with_zeros};
use crate::weights::{Kept, weights};

/// In the environment of a test that runs in a process of its own.
const CHILD: &str = "FUSED_LORA_BENCHES_TEST_CHILD";

/// Whether this is a process that finds the double where it looks for the library. If not, the test is run in
/// one.
fn on_the_double(test: &str, variables: &[(&str, &str)]) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let folder = tempfile::tempdir().unwrap();
    let built = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2021", "--crate-type", "cdylib", "-C", "opt-level=2", "-o"])
        .arg(folder.path().join("libcublasLt.so"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu/fake_cublaslt.rs"))
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("gpu::testing::{test}")])
        .env("LD_LIBRARY_PATH", folder.path())
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let [stdout, stderr] =
        [child.stdout, child.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(child.status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
    false
}

/// The steps of a forward pass, on the host.
fn double() -> Library<Processor> {
    let make = |setup: &LinearSetup<Processor>, strategy: Strategy, rank: usize| {
        let adapter_rank = (strategy != Strategy::Base).then_some(rank);
        let adapter = |lora: &Lora<_>| {
            let (a, b) = with_zeros(&lora.a, &lora.b);
            Ok((Rc::new(a), Rc::new(b)))
        };
        let slots = setup.weights.slots(1);
        let weights = weights(&Kept::default(), slots, adapter_rank, |w| Ok(Rc::clone(w)), adapter)?;
        let (handle, mut scratch) = (open()?, vec![0u8; 1 << 20]);
        assert_eq!(version(), 129_900, "the double");
        Ok(on_host(&setup.operands, setup.cache, Layout::RowMajor, move |_, tokens| {
            for (weights, tokens) in weights[0].iter().zip(tokens) {
                let m = tokens.x.nrows();
                // h is only written before it is read.
                let mut h = vec![f16::NAN; m * padded(rank)];
                let places = [tokens.x.as_ptr() as u64, h.as_mut_ptr() as u64, tokens.y.as_mut_ptr() as u64];
                let address = |matrix: &Rc<Array2<f16>>| matrix.as_ptr() as u64;
                for step in steps(places, m, padded(rank), weights, address) {
                    let matmul = Matmul::new(step.product)?;
                    let candidates = matmul.candidates(&handle)?;
                    assert_eq!(candidates.len(), 1, "one of three runs within the workspace");
                    let (scratch, stream) = (scratch.as_mut_ptr() as u64, std::ptr::null_mut());
                    // SAFETY: the double computes at once, on the host's matrices of just these sizes.
                    unsafe { matmul.enqueue(&handle, &candidates[0], &step, scratch, stream)? };
                }
            }
            Ok(())
        }))
    };
    Library {
        name: Box::new(|strategy| format!("double/{strategy}")),
        strategies: theirs,
        make: Box::new(make),
    }
}

/// Shapes, transposes, strides, α and β: all that is asked for has to be right for the result to be.
#[test]
fn what_is_asked_for_is_the_operation() {
    if !on_the_double("what_is_asked_for_is_the_operation", &[]) {
        return;
    }
    // K ≠ N in three of its four projections.
    let workload = Workload::by_name("gpt2-medium-linears").unwrap();
    let libraries = vec![this_library("", |_| &[]), double()];
    let processor = Processor::new(Simd::detect().unwrap(), 0);
    let settings = Settings { workload, ..Settings::default() };
    let mut cpu = Linears::new(processor, &settings, libraries, None);
    let size = Size { seq_len: 3, batch: 1 };
    let mut methods = cpu.methods(size);
    methods.retain(|method| method.provider == Provider::Library(1) && method.rank <= 100);
    assert_eq!(methods.iter().map(|method| method.rank).collect::<Vec<_>>(), [0, 10, 100]);
    let mut calls =
        cpu.prepare(size, 1, &methods).unwrap().into_iter().map(Option::unwrap).collect::<Vec<_>>();
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

#[test]
fn a_library_that_does_not_start_is_left_out_by_name() {
    let test = "a_library_that_does_not_start_is_left_out_by_name";
    if on_the_double(test, &[("FAKE_CUBLASLT_DOES_NOT_START", "1")]) {
        let missing = open().err().expect("it does not start").to_string();
        let expected = "version 129900 does not start: cublasLtCreate returned CUBLAS_STATUS_NOT_INITIALIZED";
        assert_eq!(missing, expected);
    }
}

/// Where the real one is installed (no GPU is needed for it), it takes the descriptors.
#[test]
fn the_real_library_takes_the_descriptors() {
    if is_present() {
        Matmul::new(Product { m: 128, n: 4096, k: 1024, accumulates: false }).unwrap();
        Matmul::new(Product { m: 1, n: 1024, k: 16, accumulates: true }).unwrap();
    } else {
        let missing = open().err().expect("it is not there");
        assert_eq!(missing.to_string(), "libcublasLt.so.12 not found");
        eprintln!("skipped: {missing}");
    }
}

#[test]
fn operations_are_multiplications_and_additions() {
    assert_eq!(Product { m: 2, n: 3, k: 5, accumulates: true }.flops(), 60.0);
}

//! The calls of cuBLASLt against a double of it that computes on the host. No GPU: addresses are the host's.

use std::path::Path;
use std::process::{Command, Output};

use fused_lora::Strategy;
use fused_lora::cpu::Simd;
use fused_lora_records::Workload;
use half::f16;

use crate::check::{Wrong, check};
use crate::gpu_peers::library::{Handle, Missing};
use crate::gpu_peers::matmul::{Addresses, Matmul, Scratch};
use crate::gpu_peers::product::Product;
use crate::gpu_peers::steps::{Places, Sizes, padded, steps};
use crate::gpu_peers::weights::on_host;
use crate::method::Method;
use crate::model::{Linear, Model};
use crate::normals::Normals;
use crate::tokens::{self, Tokens};

/// In the environment of a test that runs in a process of its own.
const CHILD: &str = "FUSED_LORA_BENCHES_TEST_CHILD";

/// This test again, in a process that finds the double where it looks for the library.
fn with_double(folder: &Path, test: &str, variables: &[(&str, &str)]) -> Output {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gpu_peers/testing/fake_cublaslt.rs");
    let built = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition", "2021", "--crate-type", "cdylib", "-C", "opt-level=2", "-o"])
        .arg(folder.join("libcublasLt.so"))
        .arg(source)
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("gpu_peers::testing::{test}")])
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
struct OnHost<'a> {
    handle: Handle,
    strategy: Strategy,
    linears: &'a [Linear],
    rank: usize,
    scratch: Vec<u8>,
}

impl Method for OnHost<'_> {
    fn name(&self) -> &str {
        "cublaslt, a double of it"
    }

    fn computes(&self) -> Option<Strategy> {
        Some(self.strategy)
    }

    fn call(&mut self, _: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
        let address = |values: &[f16]| values.as_ptr() as u64;
        for (linear, tokens) in self.linears.iter().zip(tokens) {
            let ((n, k), m) = (linear.w.dim(), tokens.x.nrows());
            let (a, b) = on_host(linear, self.rank);
            let rank = if self.strategy == Strategy::Base { 0 } else { padded(self.rank) };
            // h is only written before it is read.
            let mut h = vec![f16::NAN; m * rank];
            let places = Places {
                x: address(tokens.x.as_slice().unwrap()),
                w: address(linear.w.as_slice().unwrap()),
                a: address(a.as_slice().unwrap()),
                b: address(b.as_slice().unwrap()),
                h: h.as_mut_ptr() as u64,
                y: tokens.y.as_mut_ptr() as u64,
            };
            for step in steps(Sizes { m, n, k, rank }, places) {
                let matmul = Matmul::new(step.product)?;
                let candidates = matmul.candidates(&self.handle)?;
                assert_eq!(candidates.len(), 1, "one of three runs within the workspace");
                let scratch = Scratch(self.scratch.as_mut_ptr() as u64);
                // SAFETY: the double computes at once, on the host's matrices of just these sizes.
                unsafe {
                    matmul.enqueue(
                        &self.handle,
                        &candidates[0],
                        step.alpha,
                        step.addresses,
                        scratch,
                        std::ptr::null_mut(),
                    )?;
                }
            }
        }
        Ok(())
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
    let mut model = Model::new(workload, Simd::detect().unwrap());
    for rank in [10, 100] {
        model.ensure(1, rank).unwrap();
        let mut tokens = tokens::slot(workload, 3, &mut Normals::new(3));
        for strategy in [Strategy::Base, Strategy::Unfused] {
            let handle = Handle::new().unwrap();
            assert_eq!(handle.version(), 129_900, "the double");
            let linears = &model.slots()[0];
            let mut calls = OnHost { handle, strategy, linears, rank, scratch: vec![0; 1 << 20] };
            check(&mut calls, linears, rank, &mut tokens)
                .unwrap_or_else(|error| panic!("{strategy}, r {rank}: {error}"));
        }
        // And the check sees the difference that an adapter makes.
        let handle = Handle::new().unwrap();
        let linears = &model.slots()[0];
        let mut base = OnHost { handle, strategy: Strategy::Base, linears, rank, scratch: vec![0; 1 << 20] };
        base.call(0, &mut tokens).unwrap();
        let mut lazy = Lazy(base);
        let error = check(&mut lazy, linears, rank, &mut tokens).unwrap_err();
        assert!(matches!(error, Wrong::Mismatch { .. }), "{error}");
    }
}

/// Computes the base, and says that it computes all.
struct Lazy<'a>(OnHost<'a>);

impl Method for Lazy<'_> {
    fn name(&self) -> &str {
        "lazy"
    }

    fn computes(&self) -> Option<Strategy> {
        Some(Strategy::Unfused)
    }

    fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
        self.0.call(slot, tokens)
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
    if !crate::gpu_peers::library::is_present() {
        eprintln!("skipped: {}", Missing::Library);
        return;
    }
    for product in [Product::dense(128, 4096, 1024), Product::dense(1, 1024, 16).accumulating()] {
        assert_eq!(Matmul::new(product).unwrap().product(), product);
    }
}

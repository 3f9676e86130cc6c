//! The layer and each kind of adapter on a device against PyTorch, stage by stage, and the model as one
//! graph. Skipped where there is no device; with `FUSED_LORA_REQUIRE_DEVICE=1` that is a failure.
#![cfg(all(feature = "cuda", target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{CONFIG, Case, SEQ_LEN, Worst};
use fused_lora::cpu::Simd;
use fused_lora::cuda::{Buffer, Device, Error as CudaError, Matrix, MatrixMut, Stream};
use fused_lora_transformer::{
    Config, Error, Method, Targets, cpu,
    cuda::{Model, Workspace},
};
use half::f16;
use ndarray::{Array2, ArrayView2};

/// The first device, for one test at a time: while one captures a graph, no other can wait for all work.
fn device() -> Option<(Device, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    match Device::open(0) {
        // The slower kernels would be right, too, and nobody would notice.
        Ok(device) if device.without_sm90a().is_some() => panic!("{:?}", device.without_sm90a()),
        Ok(device) => Some((device, ALONE.lock().unwrap_or_else(PoisonError::into_inner))),
        Err(error @ (CudaError::NoDriver(_) | CudaError::NoDevice)) => {
            let required = std::env::var_os("FUSED_LORA_REQUIRE_DEVICE").is_some_and(|value| value == "1");
            assert!(!required, "{error}");
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("there is a driver, but {error}"),
    }
}

fn on_device(device: &Device, matrix: &Array2<f16>) -> Buffer {
    Buffer::from_slice(device, matrix.as_slice().unwrap()).unwrap()
}

/// What a buffer holds.
fn rows(buffer: &Buffer, rows: usize, columns: usize) -> Array2<f16> {
    Array2::from_shape_vec((rows, columns), buffer.to_vec().unwrap()).unwrap()
}

#[test]
fn every_stage_of_every_method_agrees_with_pytorch() {
    let Some((device, _alone)) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let case = Case::read();
    let x = case.matrix("x");
    let (m, d) = x.dim();
    let on = on_device(&device, &x);
    let mut workspace = Workspace::new(&device, CONFIG, m, 8).unwrap();
    let mut worst = Worst::default();
    worst.hold_all(&case, "device", &device, |layer, observe| {
        let mut y = Buffer::poisoned(&device, m * d)?;
        let (x, to) = (Matrix::new(&on, m, d)?, MatrixMut::new(&mut y, m, d)?);
        layer.forward_observed(x, SEQ_LEN, to, &mut workspace, &stream, observe)?;
        Ok(rows(&y, m, d))
    });
    worst.is_near_the_tolerance();
}

/// What stands in `found` is what the CPU computes: an error in f16's units of the largest output.
fn agrees_with_the_cpu(found: ArrayView2<'_, f16>, expected: ArrayView2<'_, f16>, what: &str) {
    let largest = expected.iter().map(|y| y.to_f32().abs()).fold(0.0, f32::max);
    for (found, expected) in found.iter().zip(expected) {
        let error = (found.to_f32() - expected.to_f32()).abs();
        assert!(error <= largest / 256.0, "{what}: {found} is not {expected}");
    }
}

/// Two layers as one graph, launched twice, on other tokens the second time; rank 10 is no multiple of
/// anything.
#[test]
fn a_model_is_one_graph() {
    let Some((device, _alone)) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let config = Config { d: 48, heads: 3, mlp: 72, layers: 2 };
    let (m, d, seq_len) = (3 * 9, config.d, 9);
    let bare = Model::random(&device, config, 7).unwrap();
    let on_cpu = cpu::Model::random(&Simd::detect().unwrap(), config, 7).unwrap();
    for method in Method::ALL {
        for targets in Targets::ALL {
            let model = bare.with_random_adapters(method, targets, 10, 8).unwrap();
            let on_cpu = on_cpu.with_random_adapters(method, targets, 10, 8).unwrap();
            let mut workspace = Workspace::new(&device, config, m, 10).unwrap();
            let mut x = Buffer::zeroed(&device, m * d).unwrap();
            let mut y = Buffer::poisoned(&device, m * d).unwrap();
            let graph = model
                .capture(
                    Matrix::new(&x, m, d).unwrap(),
                    seq_len,
                    MatrixMut::new(&mut y, m, d).unwrap(),
                    &mut workspace,
                    &stream,
                )
                .unwrap();
            for turn in 0..2 {
                let tokens = Array2::from_shape_fn((m, d), |(i, j)| {
                    f16::from_f32(((i * 31 + j * 17 + turn * 5) % 23) as f32 / 8.0 - 1.4)
                });
                x.write(tokens.as_slice().unwrap()).unwrap();
                // SAFETY: all that was recorded is alive, and nothing else is queued.
                unsafe { graph.launch(&stream).unwrap() };
                let mut expected = Array2::zeros((m, d));
                on_cpu
                    .forward(tokens.view(), seq_len, expected.view_mut(), &mut cpu::Workspace::new(), &())
                    .unwrap();
                agrees_with_the_cpu(
                    rows(&y, m, d).view(),
                    expected.view(),
                    &format!("{method} {targets} turn {turn}"),
                );
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let Some((device, _alone)) = device() else { return };
    let stream = Stream::new(&device).unwrap();
    let config = Config { d: 32, heads: 2, mlp: 64, layers: 1 };
    let model = Model::random(&device, config, 1).unwrap();
    let (m, d) = (12, config.d);
    let x = Buffer::zeroed(&device, m * d).unwrap();
    let mut y = Buffer::poisoned(&device, m * d).unwrap();
    let mut workspace = Workspace::new(&device, config, 8, 0).unwrap();
    let mut run = |rows: usize, columns: usize, seq_len: usize| {
        let (x, y) =
            (Matrix::new(&x, rows, columns).unwrap(), MatrixMut::new(&mut y, rows, columns).unwrap());
        model.forward(x, seq_len, y, &mut workspace, &stream).unwrap_err()
    };
    assert_eq!(run(12, d, 4), Error::WorkspaceRows { rows: 12, limit: 8 });
    assert_eq!(run(8, d, 0), Error::SeqLen { seq_len: 0, limit: 1024 });
    assert_eq!(run(8, d, 1025), Error::SeqLen { seq_len: 1025, limit: 1024 });
    assert_eq!(run(8, d, 3), fused_lora::Error::Sequences { rows: 8, seq_len: 3 }.into());
    let shape = Error::Shape { tensor: "x", expected: vec![8, d], found: vec![8, 16] };
    assert_eq!(run(8, 16, 4), shape);
    assert!(y.to_vec().unwrap().iter().all(|y| y.is_nan()));

    let odd = Config { heads: 5, ..config };
    assert_eq!(Model::random(&device, odd, 1).unwrap_err(), Error::Heads { heads: 5, d: 32 });
}

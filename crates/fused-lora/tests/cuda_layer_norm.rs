//! LayerNorm on a device, against f64, through the library's own launches. Skipped where there is no device.
#![cfg(gpu)]

mod common;
#[path = "common/cuda.rs"]
mod on_device;

use common::{Operands, normal, rng};
use fused_lora::{
    Error as Problem, Operand, Strategy,
    cuda::{Device, Error, Graph, LayerNorm, Matrix, Stream, Workspace},
};
use half::f16;
use ndarray::{Array1, Array2, s};
use on_device::{Memory, Placed, device, layer, with_stream};

struct Case {
    x: Array2<f16>,
    gamma: Array1<f16>,
    beta: Array1<f16>,
}

impl Case {
    fn random(seed: u64, rows: usize, width: usize) -> Self {
        let mut rng = rng(seed);
        let mut vector = |deviation| normal(&mut rng, 1, width, deviation).row(0).to_owned();
        let (gamma, beta) = (vector(1.0), vector(0.5));
        Self { x: normal::<f16>(&mut rng, rows, width, 2.0).mapv(|v| v + f16::ONE), gamma, beta }
    }

    fn norm(&self, device: &Device) -> LayerNorm {
        LayerNorm::new(device, self.gamma.view(), self.beta.view()).unwrap()
    }
}

/// Fails unless `y` is LayerNorm of `x` to two roundings to f16, one for y and one for sums in f32 of this
/// length.
#[track_caller]
fn assert_normalised(x: &Array2<f16>, case: &Case, y: &Placed, name: &str) {
    let (values, untouched) = y.read();
    for (row, (x, y)) in x.outer_iter().zip(values.outer_iter()).enumerate() {
        let x = x.mapv(f64::from);
        let mean = x.mean().unwrap();
        let variance = x.mapv(|v| (v - mean).powi(2)).mean().unwrap();
        for (column, y) in y.iter().enumerate() {
            let (gamma, beta) = (case.gamma[column].to_f64(), case.beta[column].to_f64());
            let scaled = (x[column] - mean) / (variance + 1e-5).sqrt() * gamma;
            let bound = 2f64.powi(-11) * (scaled + beta).abs()
                + 2f64.powi(-16) * (scaled.abs() + gamma.abs() + beta.abs());
            let error = (y.to_f64() - (scaled + beta)).abs();
            assert!(error <= bound, "{name}: y[{row}, {column}] is {y}, not {}", scaled + beta);
        }
    }
    assert!(untouched, "{name}: wrote around y");
}

#[test]
fn shapes_strides_and_alignment() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let memory = |gap, offset| Memory { gap, offset };
    for (rows, width) in [(1, 1), (3, 7), (4, 8), (5, 100), (9, 768), (2, 1024), (3, 1500)] {
        let case = Case::random(width as u64, rows, width);
        let norm = case.norm(&device);
        assert_eq!(norm.width(), width);
        for (of_x, of_y) in
            [(memory(0, 0), memory(0, 0)), (memory(8, 16), memory(3, 8)), (memory(1, 3), memory(0, 1))]
        {
            let x = Placed::copy_of(&device, &case.x, of_x);
            let mut y = Placed::poisoned(&device, rows, width, of_y);
            norm.forward(x.view(), y.view_mut(), &stream).unwrap();
            stream.synchronize().unwrap();
            assert_normalised(&case.x, &case, &y, &format!("{rows} × {width}, x {of_x:?}, y {of_y:?}"));
        }
    }
}

/// Where the variance is as small as ε, and where there is none.
#[test]
fn epsilon_is_that_of_gpt_2() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for deviation in [3e-3, 0.0] {
        let alternating = |(_, column): (usize, usize)| if column % 2 == 0 { deviation } else { -deviation };
        let x = Array2::from_shape_fn((2, 64), |at| f16::from_f32(alternating(at)));
        let case = Case { x, ..Case::random(5, 2, 64) };
        let x = Placed::copy_of(&device, &case.x, Memory::default());
        let mut y = Placed::poisoned(&device, 2, 64, Memory::default());
        case.norm(&device).forward(x.view(), y.view_mut(), &stream).unwrap();
        stream.synchronize().unwrap();
        assert_normalised(&case.x, &case, &y, &format!("deviation {deviation}"));
    }
}

#[test]
fn a_graph_replays_with_what_is_in_x_then() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let mut case = Case::random(1, 6, 72);
    let norm = case.norm(&device);
    let mut x = Placed::copy_of(&device, &case.x, Memory::default());
    let mut y = Placed::poisoned(&device, 6, 72, Memory::default());
    let graph = Graph::capture(&stream, |stream| norm.forward(x.view(), y.view_mut(), stream)).unwrap();
    assert!(y.is_poisoned(), "capturing ran it");
    for seed in 2..4 {
        case.x = Case::random(seed, 6, 72).x;
        x.write(&case.x);
        // SAFETY: all that was recorded is alive, and nothing else is under way.
        unsafe { graph.launch(&stream).unwrap() };
        stream.synchronize().unwrap();
        assert_normalised(&case.x, &case, &y, "replay");
    }
}

/// Between two layers whose kernels may begin before what is ahead of them has ended.
#[test]
fn between_layers_each_waits_for_the_one_before() {
    let Some((device, _alone)) = device() else { return };
    let chain = [Operands::random(1, 70, 136, 72, 20), Operands::random(2, 70, 72, 136, 20)];
    let layers = chain.each_ref().map(|operands| layer(&device, operands, true));
    let case = Case::random(3, 70, 136);
    let norm = case.norm(&device);
    for programmatic in [true, false] {
        let stream = Stream::new(&device).unwrap().with_programmatic_launches(programmatic);
        let mut workspace = Workspace::new(&device, layers[0].workspace_size(70)).unwrap();
        let x = Placed::copy_of(&device, &chain[0].x, Memory::default());
        let place = |n| Placed::poisoned(&device, 70, n, Memory::default());
        let (mut first, mut normalised, mut last) = (place(136), place(136), place(72));
        layers[0].call(x.view()).run(first.view_mut(), &mut workspace, &stream).unwrap();
        norm.forward(first.view(), normalised.view_mut(), &stream).unwrap();
        layers[1].call(normalised.view()).run(last.view_mut(), &mut workspace, &stream).unwrap();
        stream.synchronize().unwrap();
        assert_normalised(&first.read().0, &case, &normalised, "between");
        let operands = Operands { x: normalised.read().0, ..chain[1].clone() };
        on_device::assert_agrees(&last, &on_device::expected(&operands, Strategy::Fused, true), "behind");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let case = Case::random(1, 6, 72);
    let none = Array1::<f16>::from_vec(Vec::new());
    for (gamma, beta) in [(case.gamma.view(), case.beta.slice(s![..71])), (none.view(), none.view())] {
        let expected = Error::NormWeights { gamma: gamma.len(), beta: beta.len() };
        assert_eq!(LayerNorm::new(&device, gamma, beta).err(), Some(expected));
    }
    let norm = case.norm(&device);
    let x = Placed::copy_of(&device, &case.x, Memory::default());
    let refused = |x: Matrix<'_>, rows: usize, columns: usize| {
        let mut y = Placed::poisoned(&device, rows, columns, Memory::default());
        let error = norm.forward(x, y.view_mut(), &stream).expect_err("it does not fit");
        stream.synchronize().unwrap();
        assert!(y.is_poisoned(), "{error}");
        error
    };
    let shape = |operand, axis, expected, found| Problem::Shape { operand, axis, expected, found }.into();
    assert_eq!(refused(x.view(), 5, 72), shape(Operand::Y, "rows", 6, 5));
    assert_eq!(refused(x.view(), 6, 71), shape(Operand::Y, "columns", 72, 71));
    let narrow = Matrix::new(&x.buffer, 6, 71).unwrap();
    assert_eq!(refused(narrow, 6, 71), shape(Operand::X, "columns", 72, 71));
    let empty = Matrix::new(&x.buffer, 0, 72).unwrap();
    assert_eq!(refused(empty, 0, 72), Problem::ZeroSize { operand: Operand::X, shape: vec![0, 72] }.into());
}

#[test]
fn nan_stays_in_its_row() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let mut case = Case::random(4, 7, 300);
    case.x[[3, 299]] = f16::NAN;
    let x = Placed::copy_of(&device, &case.x, Memory::default());
    let mut y = Placed::poisoned(&device, 7, 300, Memory::default());
    case.norm(&device).forward(x.view(), y.view_mut(), &stream).unwrap();
    for (row, values) in y.read().0.outer_iter().enumerate() {
        assert!(values.iter().all(|v| v.is_nan() == (row == 3)), "row {row}");
    }
}

//! Causal attention on a device, against f64, through the library's own launches. Skipped where there is no
//! device.
#![cfg(gpu)]

mod common;
#[path = "common/cuda.rs"]
mod on_device;
#[path = "common/attention.rs"]
mod reference;

use common::Operands;
use fused_lora::{
    Error as Problem, Operand, Strategy,
    cuda::{CausalAttention, Error, Graph, Matrix, Stream, Workspace},
    plan,
};
use half::f16;
use ndarray::Array2;
use on_device::{Memory, Placed, device, layer, with_stream};
use reference::{Element, Shape};

/// Fails unless y is the attention of qkv: y rounded once, and a weight to f16 (u); a weight that underflows
/// beside a largest one of 1 (2⁻²⁴); scores and sums in f32 (2⁻¹⁶ is generous for these sizes;
/// `tests/kernels` has the derived bound).
#[track_caller]
fn assert_attention(shape: Shape, qkv: &Array2<f16>, y: &Placed, name: &str) {
    let (found, untouched) = y.read();
    let u = 2f64.powi(-11);
    for Element { at, value, magnitude, values, .. } in shape.attention(qkv) {
        let bound = u * value.abs() + (u + 2f64.powi(-16)) * magnitude + 2f64.powi(-24) * (1.0 + values);
        let found = found[at].to_f64();
        assert!(
            (found - value).abs() <= bound,
            "{name}, {shape:?}: y{at:?} is {found}, not {value} ± {bound:e}"
        );
    }
    assert!(untouched, "{name}: wrote around y");
}

#[test]
fn shapes() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for (sequences, seq_len, heads, head_dim) in [
        (1, 1, 1, 8),
        (3, 1, 2, 64),
        (2, 7, 3, 16),
        (1, 64, 1, 64),
        (2, 65, 2, 64),
        (1, 130, 1, 64),
        (1, 66, 2, 128),
        (3, 33, 4, 40),
    ] {
        let shape = Shape::new(sequences, seq_len, heads, head_dim);
        let attention = CausalAttention::new(&device, heads, head_dim).unwrap();
        assert_eq!((attention.heads(), attention.head_dim()), (heads, head_dim));
        let qkv = shape.qkv(seq_len as u64);
        let placed = Placed::copy_of(&device, &qkv, Memory::default());
        let mut y = Placed::poisoned(&device, shape.rows(), shape.width(), Memory::default());
        attention.forward(placed.view(), seq_len, y.view_mut(), &stream).unwrap();
        stream.synchronize().unwrap();
        assert_attention(shape, &qkv, &y, "shapes");
    }
}

#[test]
fn rows_apart_and_an_unaligned_y() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let shape = Shape::new(2, 37, 2, 24);
    let attention = CausalAttention::new(&device, 2, 24).unwrap();
    let memory = |gap, offset| Memory { gap, offset };
    for (of_qkv, of_y) in
        [(memory(8, 16), memory(8, 8)), (memory(0, 8), memory(5, 0)), (memory(16, 0), memory(0, 3))]
    {
        let qkv = shape.qkv(1);
        let placed = Placed::copy_of(&device, &qkv, of_qkv);
        let mut y = Placed::poisoned(&device, shape.rows(), shape.width(), of_y);
        attention.forward(placed.view(), 37, y.view_mut(), &stream).unwrap();
        stream.synchronize().unwrap();
        assert_attention(shape, &qkv, &y, &format!("qkv {of_qkv:?} y {of_y:?}"));
    }
}

#[test]
fn a_graph_replays_with_what_is_in_qkv_then() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let shape = Shape::new(2, 20, 2, 16);
    let attention = CausalAttention::new(&device, 2, 16).unwrap();
    let mut qkv = Placed::copy_of(&device, &shape.qkv(1), Memory::default());
    let mut y = Placed::poisoned(&device, shape.rows(), shape.width(), Memory::default());
    let record = |stream: &Stream| attention.forward(qkv.view(), 20, y.view_mut(), stream);
    let graph = Graph::capture(&stream, record).unwrap();
    assert!(y.is_poisoned(), "capturing ran it");
    for seed in 2..4 {
        let values = shape.qkv(seed);
        qkv.write(&values);
        // SAFETY: all that was recorded is alive, and nothing else is under way.
        unsafe { graph.launch(&stream).unwrap() };
        stream.synchronize().unwrap();
        assert_attention(shape, &values, &y, "replay");
    }
}

/// Between two layers whose kernels may begin before what is ahead of them has ended.
#[test]
fn between_layers_each_waits_for_the_one_before() {
    let Some((device, _alone)) = device() else { return };
    let shape = Shape::new(2, 35, 3, 16);
    let chain = [Operands::random(1, 70, 144, 72, 20), Operands::random(2, 70, 72, 48, 20)];
    let layers = chain.each_ref().map(|operands| layer(&device, operands, true));
    let attention = CausalAttention::new(&device, 3, 16).unwrap();
    for programmatic in [true, false] {
        let stream = Stream::new(&device).unwrap().with_programmatic_launches(programmatic);
        let mut workspace = Workspace::new(&device, layers[0].workspace_size(70)).unwrap();
        let x = Placed::copy_of(&device, &chain[0].x, Memory::default());
        let place = |n| Placed::poisoned(&device, 70, n, Memory::default());
        let (mut qkv, mut heads, mut last) = (place(144), place(48), place(72));
        layers[0].call(x.view()).run(qkv.view_mut(), &mut workspace, &stream).unwrap();
        attention.forward(qkv.view(), 35, heads.view_mut(), &stream).unwrap();
        layers[1].call(heads.view()).run(last.view_mut(), &mut workspace, &stream).unwrap();
        stream.synchronize().unwrap();
        assert_attention(shape, &qkv.read().0, &heads, "between");
        let operands = Operands { x: heads.read().0, ..chain[1].clone() };
        on_device::assert_agrees(&last, &on_device::expected(&operands, Strategy::Fused, true), "behind");
    }
}

#[test]
fn keys_behind_a_query_are_not_seen() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let shape = Shape::new(2, 20, 1, 32);
    let attention = CausalAttention::new(&device, 1, 32).unwrap();
    for value in [f16::NAN, f16::INFINITY] {
        let mut qkv = shape.qkv(5);
        // k and v of the first sequence's token 13.
        qkv[[13, 40]] = value;
        qkv[[13, 70]] = value;
        let placed = Placed::copy_of(&device, &qkv, Memory::default());
        let mut y = Placed::poisoned(&device, 40, 32, Memory::default());
        attention.forward(placed.view(), 20, y.view_mut(), &stream).unwrap();
        for (row, values) in y.read().0.outer_iter().enumerate() {
            let sees = (13..20).contains(&row);
            assert!(values.iter().all(|v| sees || v.is_finite()), "row {row}, {value}");
            assert_eq!(values[70 - 64].is_finite(), !sees, "row {row}, {value}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_written() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    for (heads, head_dim) in [(0, 64), (2, 0)] {
        let error = CausalAttention::new(&device, heads, head_dim).err();
        assert_eq!(error, Some(Problem::Heads { heads, head_dim }.into()));
    }
    for head_dim in [1, 12, 65, 136, usize::MAX] {
        let error = CausalAttention::new(&device, 1, head_dim).err();
        assert_eq!(error, Some(Error::HeadDim { head_dim, limit: 128 }));
    }
    assert!(matches!(
        CausalAttention::new(&device, usize::MAX, 64),
        Err(Error::Plan(plan::Error::TooLarge { .. }))
    ));

    let shape = Shape::new(3, 10, 2, 16);
    let attention = CausalAttention::new(&device, 2, 16).unwrap();
    let qkv = Placed::copy_of(&device, &shape.qkv(1), Memory { gap: 8, offset: 0 });
    let refused = |qkv: Matrix<'_>, seq_len: usize, rows: usize, columns: usize| {
        let mut y = Placed::poisoned(&device, rows, columns, Memory::default());
        let error = attention.forward(qkv, seq_len, y.view_mut(), &stream).expect_err("it does not fit");
        stream.synchronize().unwrap();
        assert!(y.is_poisoned(), "{error}");
        error
    };
    let problem = |problem: Problem| Error::from(problem);
    for seq_len in [0, 7, 31] {
        assert_eq!(refused(qkv.view(), seq_len, 30, 32), problem(Problem::Sequences { rows: 30, seq_len }));
    }
    let shape = |operand, axis, expected, found| problem(Problem::Shape { operand, axis, expected, found });
    assert_eq!(refused(qkv.view(), 10, 29, 32), shape(Operand::Y, "rows", 30, 29));
    assert_eq!(refused(qkv.view(), 10, 30, 31), shape(Operand::Y, "columns", 32, 31));
    let narrow = Matrix::new(&qkv.buffer, 30, 95).unwrap();
    assert_eq!(refused(narrow, 10, 30, 32), shape(Operand::Qkv, "columns", 96, 95));
    let empty = Matrix::new(&qkv.buffer, 0, 96).unwrap();
    let expected = problem(Problem::ZeroSize { operand: Operand::Qkv, shape: vec![0, 96] });
    assert_eq!(refused(empty, 10, 0, 32), expected);
    for (offset, stride) in [(1, 104), (0, 100), (4, 104)] {
        let unaligned = Matrix::strided(&qkv.buffer, offset, 20, 96, stride).unwrap();
        let error = refused(unaligned, 10, 20, 32);
        let Error::Plan(plan::Error::Unaligned { what: "qkv", stride: named, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(named, stride);
    }
}

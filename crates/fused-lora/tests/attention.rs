//! Causal attention at every SIMD level against f64, at the edges of its blocks.

mod common;
#[path = "common/attention.rs"]
mod in_f64;

use common::Strided;
use fused_lora::{
    Error, Operand,
    cpu::{CausalAttention, Simd, Workspace},
};
use half::f16;
use in_f64::{Element, Shape};
use ndarray::{Array2, s};

/// y in f64, and the bound of every element: y rounded once; a weight rounded to f16 (u), or underflowing
/// beside a largest one of 1 (2⁻²⁴); scores and sums in f32 (2⁻¹⁶ is generous for 64 columns and 1024 keys).
fn reference(shape: Shape, qkv: &Array2<f16>) -> (Array2<f64>, Array2<f64>) {
    let u = 2f64.powi(-11);
    let mut y = Array2::zeros((shape.rows(), shape.width()));
    let mut tolerance = y.clone();
    for Element { at, value, magnitude, values, total } in shape.attention(qkv) {
        y[at] = value;
        tolerance[at] = 2.0 * u * value.abs()
            + (u + 2f64.powi(-16)) * magnitude
            + 2f64.powi(-24) * (1.0 + values / total);
    }
    (y, tolerance)
}

fn agrees(seed: u64, shape: Shape, gap: usize, threads: usize) {
    let qkv = shape.qkv(seed);
    let (expected, tolerance) = reference(shape, &qkv);
    let x = Strided::copy_of(&qkv, gap, gap);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    for simd in Simd::available() {
        let attention = CausalAttention::with_simd(simd, shape.heads, shape.head_dim).unwrap();
        let mut workspace = Workspace::new();
        let mut first = None;
        for _ in 0..2 {
            let mut y = Strided::poisoned(shape.rows(), shape.width(), gap, gap);
            pool.install(|| attention.forward(x.view(), shape.seq_len, y.view_mut(), &mut workspace))
                .unwrap();
            for ((at, &y), (&expected, &tolerance)) in
                y.view().indexed_iter().zip(expected.iter().zip(&tolerance))
            {
                let error = (y.to_f64() - expected).abs();
                assert!(error <= tolerance, "{simd} {shape:?} {at:?}: {y} is not {expected} ± {tolerance:e}");
            }
            assert!(y.gaps_are_untouched(), "{simd} {shape:?}");
            let first = first.get_or_insert_with(|| y.view().to_owned());
            assert_eq!(y.view(), first.view(), "{simd} {shape:?}: the second call differs");
        }
    }
}

#[test]
fn sequences_at_the_edges_of_blocks_of_queries_and_keys() {
    for seq_len in (1..20).chain([31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128, 129, 150]) {
        agrees(seq_len as u64, Shape::new(2, seq_len, 2, 16), 0, 2);
    }
}

#[test]
fn heads_of_any_width() {
    for head_dim in [1, 3, 4, 5, 6, 7, 8, 9, 12, 13, 15, 17, 33, 64, 65] {
        agrees(head_dim as u64, Shape::new(1, 70, 3, head_dim), 3, 3);
    }
}

#[test]
fn the_longest_sequence_of_gpt2() {
    agrees(1, Shape::new(1, 1024, 1, 64), 1, 1);
}

#[test]
fn a_workspace_serves_any_size() {
    let mut workspace = Workspace::new();
    for shape in [Shape::new(1, 70, 2, 9), Shape::new(3, 5, 1, 70), Shape::new(2, 130, 1, 2)] {
        let qkv = shape.qkv(5);
        let (expected, tolerance) = reference(shape, &qkv);
        for simd in Simd::available() {
            let mut y = Array2::from_elem(expected.dim(), f16::NAN);
            let attention = CausalAttention::with_simd(simd, shape.heads, shape.head_dim).unwrap();
            attention.forward(qkv.view(), shape.seq_len, y.view_mut(), &mut workspace).unwrap();
            let errors = (y.mapv(f64::from) - &expected).mapv(f64::abs);
            assert!(
                errors.iter().zip(&tolerance).all(|(error, tolerance)| error <= tolerance),
                "{simd} {shape:?}"
            );
        }
    }
}

/// A score of 1000 beside one of 0 is a weight of 1 beside one of 0, not infinity.
#[test]
fn large_scores_do_not_overflow() {
    let shape = Shape::new(1, 100, 1, 4);
    let mut qkv = Array2::from_elem((100, 12), f16::ZERO);
    for token in 0..100 {
        // Each token looks at itself: q · k is 50² where the tokens are equal modulo 4.
        qkv[[token, token % 4]] = f16::from_f32(50.0);
        qkv[[token, 4 + token % 4]] = f16::from_f32(50.0);
        qkv[[token, 8]] = f16::from_f32((token % 4) as f32);
    }
    for simd in Simd::available() {
        let mut y = Array2::from_elem((100, 4), f16::NAN);
        let attention = CausalAttention::with_simd(simd, 1, 4).unwrap();
        attention.forward(qkv.view(), shape.seq_len, y.view_mut(), &mut Workspace::new()).unwrap();
        for token in 0..100 {
            assert_eq!(
                y.row(token).to_vec(),
                [(token % 4) as f32, 0.0, 0.0, 0.0].map(f16::from_f32),
                "{simd} {token}"
            );
        }
    }
}

/// The future and other sequences are of no account, bit for bit; a NaN is seen by those who look at it.
#[test]
fn tokens_see_the_past_of_their_own_sequence_alone() {
    let shape = Shape::new(3, 90, 2, 8);
    let qkv = shape.qkv(3);
    let mut changed = qkv.clone();
    changed.slice_mut(s![140..180, ..]).fill(f16::from_f32(0.7));
    let mut poisoned = qkv.clone();
    poisoned.slice_mut(s![175, ..]).fill(f16::NAN);
    for simd in Simd::available() {
        let run = |qkv: &Array2<f16>| {
            let mut y = Array2::from_elem((shape.rows(), shape.width()), f16::NAN);
            let attention = CausalAttention::with_simd(simd, 2, 8).unwrap();
            attention.forward(qkv.view(), 90, y.view_mut(), &mut Workspace::new()).unwrap();
            y
        };
        let (y, other) = (run(&qkv), run(&changed));
        assert_eq!(y.slice(s![..140, ..]), other.slice(s![..140, ..]), "{simd}");
        assert_eq!(y.slice(s![180.., ..]), other.slice(s![180.., ..]), "{simd}");
        assert!((140..180).all(|row| y.row(row) != other.row(row)), "{simd}");
        let nan = run(&poisoned);
        assert!(nan.slice(s![175..180, ..]).iter().all(|y| y.is_nan()), "{simd}");
        assert_eq!(nan.slice(s![..90, ..]), y.slice(s![..90, ..]), "{simd}");
        assert_eq!(nan.slice(s![180.., ..]), y.slice(s![180.., ..]), "{simd}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let zero = |rows: usize, columns: usize| Array2::<f16>::zeros((rows, columns));
    assert_eq!(CausalAttention::new(0, 8).unwrap_err(), Error::Heads { heads: 0, head_dim: 8 });
    assert_eq!(CausalAttention::new(2, 0).unwrap_err(), Error::Heads { heads: 2, head_dim: 0 });
    let shape = |operand, axis, expected, found| Error::Shape { operand, axis, expected, found };
    let attention = CausalAttention::new(2, 4).unwrap();
    for (qkv, seq_len, y, refused) in [
        ((6, 24), 4, (6, 8), Error::Sequences { rows: 6, seq_len: 4 }),
        ((6, 24), 0, (6, 8), Error::Sequences { rows: 6, seq_len: 0 }),
        ((0, 24), 3, (0, 8), Error::ZeroSize { operand: Operand::Qkv, shape: vec![0, 24] }),
        ((6, 23), 3, (6, 8), shape(Operand::Qkv, "columns", 24, 23)),
        ((6, 24), 3, (5, 8), shape(Operand::Y, "rows", 6, 5)),
        ((6, 24), 3, (6, 9), shape(Operand::Y, "columns", 8, 9)),
    ] {
        let mut y = zero(y.0, y.1);
        let found =
            attention.forward(zero(qkv.0, qkv.1).view(), seq_len, y.view_mut(), &mut Workspace::new());
        assert_eq!(found.unwrap_err(), refused);
    }
    let found = attention.forward(zero(24, 6).t(), 3, zero(6, 8).view_mut(), &mut Workspace::new());
    assert_eq!(found.unwrap_err(), Error::ColumnStride { operand: Operand::Qkv, stride: 6 });
    assert_eq!(
        Error::Sequences { rows: 6, seq_len: 4 }.to_string(),
        "6 rows are no whole number of sequences of 4 tokens"
    );
}

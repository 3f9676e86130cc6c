//! What does not fit is refused by name, and y stays as it was.

use fused_lora::{
    DType, Epilogue, Error, Operand, Residual, Strategy,
    cpu::{Adapter, Layer, Simd, Workspace},
    reference::{self, Inputs, LoraView},
};
use half::f16;
use ndarray::{Array1, Array2, s};

fn matrix(rows: usize, columns: usize) -> Array2<f16> {
    Array2::from_elem((rows, columns), f16::ONE)
}

fn layer() -> Layer {
    Layer::new(matrix(6, 4).view()).unwrap()
}

#[test]
fn sizes_of_zero() {
    let zero = |operand, shape: &[usize]| Error::ZeroSize { operand, shape: shape.to_vec() };
    assert_eq!(Layer::new(matrix(0, 4).view()).unwrap_err(), zero(Operand::W, &[0, 4]));
    assert_eq!(Layer::new(matrix(6, 0).view()).unwrap_err(), zero(Operand::W, &[6, 0]));
    assert_eq!(
        Adapter::new(matrix(2, 0).view(), matrix(6, 2).view(), 1.0).unwrap_err(),
        zero(Operand::A, &[0])
    );
    assert_eq!(
        Adapter::new(matrix(2, 4).view(), matrix(0, 2).view(), 1.0).unwrap_err(),
        zero(Operand::B, &[0])
    );
    let refused = zero(Operand::W, &[6, 0]);
    assert_eq!(refused.to_string(), "W [N, K] has shape [6, 0]: M, N and K must be at least 1");
}

#[test]
fn no_rows_are_no_error() {
    let (x, mut y) = (matrix(0, 4), matrix(0, 6));
    layer().call(x.view()).run(y.view_mut(), &mut Workspace::new()).unwrap();
    let refused = layer().call(x.view()).run(matrix(0, 5).view_mut(), &mut Workspace::new());
    assert_eq!(refused, Err(Error::Shape { operand: Operand::Y, axis: "columns", expected: 6, found: 5 }));
}

#[test]
fn a_rank_of_zero_is_none_of_them() {
    let adapter = Adapter::new(matrix(0, 4).view(), matrix(6, 0).view(), 1.0).unwrap();
    assert_eq!(layer().with_adapter(adapter).unwrap().rank(), 0);
}

#[test]
fn shapes_that_do_not_fit() {
    let shape = |operand, axis, expected, found| Error::Shape { operand, axis, expected, found };
    let adapter = |r, k, n, r_of_b| Adapter::new(matrix(r, k).view(), matrix(n, r_of_b).view(), 1.0);
    assert_eq!(adapter(2, 4, 6, 3).unwrap_err(), shape(Operand::B, "columns", 2, 3));
    assert_eq!(
        layer().with_adapter(adapter(2, 5, 6, 2).unwrap()).unwrap_err(),
        shape(Operand::A, "columns", 4, 5)
    );
    assert_eq!(
        layer().with_adapter(adapter(2, 4, 7, 2).unwrap()).unwrap_err(),
        shape(Operand::B, "rows", 6, 7)
    );
    let bias = Epilogue::bias(Array1::zeros(5));
    assert_eq!(layer().with_epilogue(&bias).unwrap_err(), shape(Operand::Bias, "elements", 6, 5));

    for (x, y, refused) in [
        ((3, 5), (3, 6), shape(Operand::X, "columns", 4, 5)),
        ((3, 4), (2, 6), shape(Operand::Y, "rows", 3, 2)),
        ((3, 4), (3, 7), shape(Operand::Y, "columns", 6, 7)),
    ] {
        let mut y = matrix(y.0, y.1);
        let found = layer().call(matrix(x.0, x.1).view()).run(y.view_mut(), &mut Workspace::new());
        assert_eq!(found.unwrap_err(), refused);
        assert!(y.iter().all(|&v| v == f16::ONE), "y was written");
    }
    assert_eq!(shape(Operand::Y, "rows", 3, 2).to_string(), "y [M, N] has 2 rows, expected 3");

    let (good, x, mut y) = (matrix(3, 6), matrix(3, 4), matrix(3, 6));
    for (rows, columns, refused) in
        [(2, 6, shape(Operand::Residual, "rows", 3, 2)), (3, 5, shape(Operand::Residual, "columns", 6, 5))]
    {
        let bad = matrix(rows, columns);
        for residual in [Residual::Matrix(bad.view()), Residual::Sum(good.view(), bad.view())] {
            let (strategy, workspace) = (Strategy::Fused, &mut Workspace::new());
            let found =
                layer().call(x.view()).residual(residual).strategy(strategy).run(y.view_mut(), workspace);
            assert_eq!(found.unwrap_err(), refused);
        }
    }
    assert!(y.iter().all(|&v| v == f16::ONE), "y was written");
    assert_eq!(shape(Operand::Residual, "rows", 3, 2).to_string(), "residual [M, N] has 2 rows, expected 3");
}

#[test]
fn a_refused_adapter_leaves_the_old_one() {
    let mut layer =
        layer().with_adapter(Adapter::new(matrix(3, 4).view(), matrix(6, 3).view(), 1.0).unwrap()).unwrap();
    let misfit = Adapter::new(matrix(2, 5).view(), matrix(6, 2).view(), 1.0).unwrap();
    assert!(layer.set_adapter(Some(misfit)).is_err());
    assert_eq!(layer.rank(), 3);
}

#[test]
fn columns_apart() {
    let (wide, mut y) = (matrix(3, 8), matrix(3, 6));
    let refused = layer().call(wide.slice(s![.., ..;2])).run(y.view_mut(), &mut Workspace::new());
    assert_eq!(refused.unwrap_err(), Error::ColumnStride { operand: Operand::X, stride: 2 });
    let mut transposed = matrix(6, 3);
    let refused =
        layer().call(matrix(3, 4).view()).run(transposed.view_mut().reversed_axes(), &mut Workspace::new());
    assert_eq!(refused.unwrap_err(), Error::ColumnStride { operand: Operand::Y, stride: 3 });
    let residual = matrix(6, 3);
    let refused = layer()
        .call(matrix(3, 4).view())
        .residual(Residual::Matrix(residual.t()))
        .run(y.view_mut(), &mut Workspace::new());
    assert_eq!(refused.unwrap_err(), Error::ColumnStride { operand: Operand::Residual, stride: 3 });
}

/// A weight is packed, so it may lie in any order.
#[test]
fn weights_may_be_transposed() {
    let w = Array2::from_shape_fn((6, 4), |(i, j)| f16::from_f32((i * 10 + j) as f32));
    let transposed = w.t().as_standard_layout().into_owned();
    let (x, mut y, mut z) = (matrix(2, 4), matrix(2, 6), matrix(2, 6));
    Layer::new(w.view()).unwrap().call(x.view()).run(y.view_mut(), &mut Workspace::new()).unwrap();
    Layer::new(transposed.t()).unwrap().call(x.view()).run(z.view_mut(), &mut Workspace::new()).unwrap();
    assert_eq!(y, z);
}

#[test]
fn scales_that_are_no_number() {
    for scale in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let refused = Adapter::new(matrix(2, 4).view(), matrix(6, 2).view(), scale).unwrap_err();
        assert!(matches!(refused, Error::Scale { .. }), "{scale}");
    }
}

#[test]
fn levels_do_not_mix() {
    // By what serves f16, since that is what they are packed for.
    let serving = |simd: &Simd| simd.serving(DType::F16) == *simd;
    for simd in Simd::available().into_iter().filter(serving) {
        for other in Simd::available().into_iter().filter(serving).filter(|&other| other != simd) {
            let adapter = Adapter::with_simd(other, matrix(2, 4).view(), matrix(6, 2).view(), 1.0).unwrap();
            let refused =
                Layer::with_simd(simd, matrix(6, 4).view()).unwrap().with_adapter(adapter).unwrap_err();
            assert_eq!(refused, Error::SimdMismatch { layer: simd, adapter: other });
        }
    }
    for missing in Simd::ALL.iter().copied().filter(|simd| !Simd::available().contains(simd)) {
        let refused = Layer::with_simd(missing, matrix(6, 4).view()).unwrap_err();
        assert_eq!(refused, Error::SimdUnavailable { simd: missing, available: Simd::available() });
    }
}

#[test]
fn level_names() {
    for simd in Simd::ALL {
        assert_eq!(simd.to_string().parse().as_ref(), Ok(simd));
    }
    let refused = "sse".parse::<Simd>().unwrap_err();
    assert_eq!(
        refused.to_string(),
        "unknown SIMD level \"sse\" (the environment variable FUSED_LORA_SIMD sets it); known are amx, \
         avx512bf16, avx512, avx2, portable"
    );
}

#[test]
fn the_reference_checks_shapes_too() {
    let (x, w, a, b) = (matrix(3, 5), matrix(6, 4), matrix(2, 4), matrix(6, 3));
    let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: 1.0 });
    let with = |x, adapter| {
        reference::forward(&Inputs { x, w: w.view(), adapter, epilogue: Epilogue::NONE }, Strategy::Fused)
            .map(|_| ())
            .unwrap_err()
    };
    let shape = |operand, axis, expected, found| Error::Shape { operand, axis, expected, found };
    assert_eq!(with(x.view(), None), shape(Operand::X, "columns", 4, 5));
    assert_eq!(with(x.slice(s![.., ..4]), adapter), shape(Operand::B, "columns", 2, 3));
}

//! What a layer and a model are asked, and what they refuse.

use fused_lora::{
    Epilogue, Error as LibraryError, Operand, Strategy,
    cpu::{self, Simd},
};
use fused_lora_transformer::{
    AdapterWeights, Config, Error, LayerWeights, LoraTargets, Method, NormWeights, Scratch, Stage, Targets,
    cpu::{Layer, Model, Workspace},
};
use half::f16;
use ndarray::{Array1, Array2, ArrayView2, s};

const CONFIG: Config = Config { d: 24, heads: 3, mlp: 40, layers: 2 };

fn simd() -> Simd {
    Simd::detect().unwrap()
}

fn tokens(rows: usize) -> Array2<f16> {
    Array2::from_shape_fn((rows, CONFIG.d), |(i, j)| {
        f16::from_f32(((i * 31 + j * 17) % 23) as f32 / 8.0 - 1.4)
    })
}

fn forward(model: &Model, x: ArrayView2<'_, f16>, seq_len: usize) -> Array2<f16> {
    let mut y = Array2::from_elem(x.dim(), f16::NAN);
    model.forward(x, seq_len, y.view_mut(), &mut Workspace::new(), &()).unwrap();
    y
}

#[test]
fn a_model_is_its_layers_one_after_another() {
    let x = tokens(20);
    let config = Config { layers: 4, ..CONFIG };
    for method in Method::ALL {
        let model = Model::random(&simd(), config, 3)
            .unwrap()
            .with_random_adapters(method, Targets::All, 4, 5)
            .unwrap();
        let mut expected = x.clone();
        for layer in model.layers() {
            let mut y = Array2::from_elem(x.dim(), f16::NAN);
            layer.forward(expected.view(), 10, y.view_mut(), &mut Workspace::new(), &()).unwrap();
            assert_ne!(y, expected, "{method}");
            expected = y;
        }
        assert_eq!(forward(&model, x.view(), 10), expected, "{method}");
        let layers = model.layers().to_vec();
        assert_eq!(forward(&Model::new(config, layers).unwrap(), x.view(), 10), expected, "{method}");
    }
}

#[test]
fn layers_differ_and_seeds_too() {
    let of = |seed| Model::random(&simd(), CONFIG, seed).unwrap();
    let x = tokens(4);
    let run = |layer: &Layer| {
        let mut y = Array2::zeros(x.dim());
        layer.forward(x.view(), 4, y.view_mut(), &mut Workspace::new(), &()).unwrap();
        y
    };
    let (one, other) = (of(1), of(2));
    assert_ne!(run(&one.layers()[0]), run(&one.layers()[1]));
    assert_ne!(run(&one.layers()[0]), run(&other.layers()[0]));
    assert_eq!(run(&one.layers()[1]), run(&of(1).layers()[1]));
}

#[test]
fn a_rank_of_zero_is_the_bare_model_bit_for_bit() {
    let (bare, x) = (Model::random(&simd(), CONFIG, 1).unwrap(), tokens(14));
    let expected = forward(&bare, x.view(), 7);
    for method in Method::ALL {
        for targets in Targets::ALL {
            let with = |rank| bare.with_random_adapters(method, targets, rank, 2).unwrap();
            assert_eq!(forward(&with(0), x.view(), 7), expected, "{method} {targets}");
            assert_eq!(
                forward(&with(3), x.view(), 7) == expected,
                method == Method::None,
                "{method} {targets}"
            );
            // An adapter can be dropped.
            let dropped = with(3).with_random_adapters(Method::None, targets, 3, 2).unwrap();
            assert_eq!(forward(&dropped, x.view(), 7), expected, "{method} {targets}");
        }
    }
}

/// Fused and unfused agree to rounding, so PyTorch cannot tell which ran: bit for bit it is the library's
/// strategy of that name.
#[test]
fn lora_runs_with_the_strategy_of_its_name() {
    let x = tokens(12);
    let weights = LayerWeights::random(CONFIG, 1).unwrap();
    let layer = Layer::new(&simd(), CONFIG, &weights).unwrap();
    let mut seen = Vec::new();
    for (method, strategy) in [(Method::LoraUnfused, Strategy::Unfused), (Method::LoraFused, Strategy::Fused)]
    {
        assert_eq!(method.strategy(), strategy);
        let adapters = AdapterWeights::random(CONFIG, method, Targets::All, 5, 2).unwrap();
        let AdapterWeights::Lora { targets: LoraTargets::All { qkv: lora, .. }, .. } = &adapters else {
            panic!("{adapters:?}")
        };
        let adapter = cpu::Adapter::new(lora.a.view(), lora.b.view(), lora.scale).unwrap();
        let qkv = cpu::Layer::new(weights.qkv.weight.view()).unwrap().with_adapter(adapter).unwrap();
        let qkv = qkv.with_epilogue(&Epilogue::bias(weights.qkv.bias.clone())).unwrap();
        let (mut input, mut y) = (None, x.clone());
        let mut expected = Array2::from_elem((12, 3 * CONFIG.d), f16::NAN);
        let observe = |stage, value: &Scratch<Simd>| {
            match stage {
                Stage::Norm1 => input = Some(value.to_array()?),
                Stage::Qkv => {
                    let input = input.as_ref().unwrap().view();
                    qkv.call(input)
                        .strategy(strategy)
                        .run(expected.view_mut(), &mut cpu::Workspace::new())
                        .unwrap();
                    assert_eq!(value.to_array()?, expected, "{method}");
                    seen.push(expected.clone());
                }
                _ => {}
            }
            Ok(())
        };
        let layer = layer.with_adapters(&adapters).unwrap();
        layer.forward_observed(x.view(), 6, y.view_mut(), &mut Workspace::new(), &(), observe).unwrap();
    }
    assert_eq!(seen.len(), 2);
    assert_ne!(seen[0], seen[1], "the case tells them apart");
}

#[test]
fn sequences_do_not_see_each_other_in_any_workspace() {
    let x = tokens(60);
    for simd in Simd::available() {
        let model = Model::random(&simd, CONFIG, 1).unwrap();
        for method in Method::ALL {
            let model = model.with_random_adapters(method, Targets::QueryValue, 5, 2).unwrap();
            let mut workspace = Workspace::new();
            let mut run = |x: ArrayView2<'_, f16>| {
                let mut y = Array2::from_elem(x.dim(), f16::NAN);
                model.forward(x, 20, y.view_mut(), &mut workspace, &()).unwrap();
                y
            };
            let all = run(x.view());
            for first in [0, 20, 40] {
                let rows = s![first..first + 20, ..];
                assert_eq!(run(x.slice(rows)), all.slice(rows), "{simd} {method} {first}");
            }
        }
    }
}

#[test]
fn rows_may_lie_apart_and_nothing_between_them_is_touched() {
    let (model, x) = (Model::random(&simd(), CONFIG, 1).unwrap(), tokens(10));
    let expected = forward(&model, x.view(), 5);
    let mut wide = Array2::from_elem((10, CONFIG.d + 3), f16::from_f32(7.0));
    wide.slice_mut(s![.., 1..=CONFIG.d]).assign(&x);
    let mut y = Array2::from_elem((10, CONFIG.d + 3), f16::from_f32(7.0));
    let inside = s![.., 1..=CONFIG.d];
    model.forward(wide.slice(inside), 5, y.slice_mut(inside), &mut Workspace::new(), &()).unwrap();
    assert_eq!(y.slice(inside), expected);
    y.slice_mut(inside).fill(f16::from_f32(7.0));
    assert!(y.iter().all(|&value| value == f16::from_f32(7.0)));
}

#[test]
fn what_does_not_fit_is_refused_and_y_stays() {
    let model = Model::random(&simd(), CONFIG, 1).unwrap();
    let shape = |tensor, expected: &[usize], found: &[usize]| Error::Shape {
        tensor,
        expected: expected.to_vec(),
        found: found.to_vec(),
    };
    let sequences = |rows, seq_len| Error::Library(LibraryError::Sequences { rows, seq_len });
    for (x, seq_len, y, refused) in [
        ((2048, 24), 1025, (2048, 24), Error::SeqLen { seq_len: 1025, limit: 1024 }),
        ((4, 24), 0, (4, 24), Error::SeqLen { seq_len: 0, limit: 1024 }),
        ((4, 24), 3, (4, 24), sequences(4, 3)),
        ((4, 23), 2, (4, 23), shape("x", &[4, 24], &[4, 23])),
        ((0, 24), 2, (0, 24), shape("x", &[1, 24], &[0, 24])),
        ((4, 24), 2, (3, 24), shape("y", &[4, 24], &[3, 24])),
    ] {
        let (x, mut y) = (Array2::from_elem(x, f16::ONE), Array2::from_elem(y, f16::ONE));
        let found = model.forward(x.view(), seq_len, y.view_mut(), &mut Workspace::new(), &()).unwrap_err();
        assert_eq!(found, refused);
        let found = model.layers()[0].forward(x.view(), seq_len, y.view_mut(), &mut Workspace::new(), &());
        assert_eq!(found.unwrap_err(), refused);
        assert!(y.iter().all(|&value| value == f16::ONE));
    }
    assert_eq!(
        Error::SeqLen { seq_len: 1025, limit: 1024 }.to_string(),
        "seq_len is 1025: it must be 1 to 1024"
    );

    let (square, mut y) = (tokens(24), tokens(24));
    let found = model.forward(square.t(), 24, y.view_mut(), &mut Workspace::new(), &()).unwrap_err();
    assert_eq!(found, Error::Library(LibraryError::ColumnStride { operand: Operand::X, stride: 24 }));
    let found = model.forward(square.view(), 24, y.view_mut().reversed_axes(), &mut Workspace::new(), &());
    assert_eq!(
        found.unwrap_err(),
        Error::Library(LibraryError::ColumnStride { operand: Operand::Y, stride: 24 })
    );
}

#[test]
fn the_longest_sequence_is_not_refused() {
    let config = Config { layers: 1, ..CONFIG };
    let y = forward(&Model::random(&simd(), config, 1).unwrap(), tokens(1024).view(), 1024);
    assert!(y.iter().all(|value| value.is_finite()));
}

#[test]
fn weights_of_another_shape_are_refused() {
    let weights = LayerWeights::random(CONFIG, 1).unwrap();
    let refused = Layer::new(&simd(), Config { mlp: 41, ..CONFIG }, &weights).unwrap_err();
    let shape = |tensor, expected: [usize; 2], found: [usize; 2]| Error::Shape {
        tensor,
        expected: expected.to_vec(),
        found: found.to_vec(),
    };
    assert_eq!(refused, shape("the MLP's up projection", [41, 24], [40, 24]));
    assert_eq!(
        Layer::new(&simd(), Config { heads: 5, ..CONFIG }, &weights).unwrap_err(),
        Error::Heads { heads: 5, d: 24 }
    );
    for (tensor, gamma, beta) in [("gamma", 25, 24), ("beta", 24, 23)] {
        let ones = |n| Array1::from_elem(n, f16::ONE);
        let norm2 = NormWeights { gamma: ones(gamma), beta: ones(beta) };
        let refused = Layer::new(&simd(), CONFIG, &LayerWeights { norm2, ..weights.clone() }).unwrap_err();
        let found = vec![gamma + beta - 24];
        assert_eq!(refused, Error::Shape { tensor, expected: vec![24], found });
    }
    let layer = Layer::new(&simd(), CONFIG, &weights).unwrap();
    let wide = Config { d: 27, ..CONFIG };
    for method in [Method::AdapterH, Method::AdapterL, Method::LoraUnfused, Method::LoraFused] {
        for targets in Targets::ALL {
            let adapters = AdapterWeights::random(wide, method, targets, 2, 1).unwrap();
            assert!(layer.with_adapters(&adapters).is_err(), "{method} {targets}");
        }
    }
    let layers = vec![layer];
    let refused = Model::new(CONFIG, layers.clone()).unwrap_err();
    assert_eq!(refused, Error::Shape { tensor: "the model", expected: vec![2], found: vec![1] });
    let refused = Model::new(Config { layers: 1, heads: 4, ..CONFIG }, layers).unwrap_err();
    assert_eq!(
        refused,
        Error::Shape { tensor: "a layer", expected: vec![24, 4, 40], found: vec![24, 3, 40] }
    );
}

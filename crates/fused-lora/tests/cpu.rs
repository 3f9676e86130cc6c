//! Every SIMD level and strategy against the f64 reference, over shapes chosen to be awkward.

mod common;

use common::{Operands, Strided, normal, rng};
use fused_lora::{
    Activation, AdapterElement, DType, Element, Epilogue, Error, Residual, Strategy,
    cpu::{Adapter, Layer, Simd, Workspace},
    reference::{self, Inputs, LoraView, Sums},
};
use half::{bf16, f16};
use ndarray::{Array2, ArrayView2, array, s};
use proptest::prelude::*;

/// How a case lies in memory, and who computes it.
#[derive(Clone, Copy, Debug)]
struct Setting {
    gap_x: usize,
    gap_y: usize,
    offset: usize,
    bias: bool,
    gelu: bool,
    residual: Held,
    threads: usize,
}

/// Where the residual is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Nowhere,
    InY,
    InOne,
    InTwo,
}

const PLAIN: Setting =
    Setting { gap_x: 0, gap_y: 0, offset: 0, bias: false, gelu: false, residual: Held::Nowhere, threads: 2 };

fn layer<T: Element + AdapterElement<T>>(simd: Simd, operands: &Operands<T>, bias: bool) -> Layer<T> {
    let layer = Layer::with_simd(simd, operands.w.view()).unwrap();
    let adapter = Adapter::with_simd(simd, operands.a.view(), operands.b.view(), operands.scale).unwrap();
    let layer = layer.with_adapter(adapter).unwrap();
    layer.with_epilogue(&epilogue(operands, bias, false)).unwrap()
}

fn expected(operands: &Operands, strategy: Strategy, bias: bool) -> reference::Expected {
    let Operands { a, b, scale, .. } = operands;
    let lora = LoraView { a: a.view(), b: b.view(), scale: *scale };
    expected_of(operands, lora, strategy, &epilogue(operands, bias, false), &[])
}

fn epilogue<T: Element>(operands: &Operands<T>, bias: bool, gelu: bool) -> Epilogue<T> {
    let epilogue = if bias { Epilogue::bias(operands.bias.clone()) } else { Epilogue::default() };
    if gelu { epilogue.with_activation(Activation::GeluTanh) } else { epilogue }
}

fn expected_of<'a, T: Element, H: AdapterElement<T>>(
    operands: &'a Operands<T>,
    lora: LoraView<'a, H>,
    strategy: Strategy,
    epilogue: &'a Epilogue<T>,
    residuals: &[ArrayView2<'_, T>],
) -> reference::Expected {
    let Operands { x, w, .. } = operands;
    let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(lora), epilogue };
    // On random numbers f16 keeps the narrower bound as well.
    let sums = if T::DTYPE == DType::F16 { Sums::TensorCores } else { Sums::OneByOne };
    reference::forward_summed(&inputs, residuals, strategy, sums).unwrap()
}

/// A layer's type, and whether its adapter is f32.
type Types = (DType, bool);

const ALL_TYPES: [Types; 5] =
    [(DType::F16, false), (DType::Bf16, false), (DType::F32, false), (DType::F16, true), (DType::Bf16, true)];

/// Runs all strategies at all levels, in these types.
fn agrees_with_the_reference(seed: u64, types: Types, sizes: [usize; 4], setting: Setting) {
    match types {
        (DType::F16, false) => agrees::<f16, f16>(seed, sizes, setting),
        (DType::F16, true) => agrees::<f16, f32>(seed, sizes, setting),
        (DType::Bf16, false) => agrees::<bf16, bf16>(seed, sizes, setting),
        (DType::Bf16, true) => agrees::<bf16, f32>(seed, sizes, setting),
        _ => agrees::<f32, f32>(seed, sizes, setting),
    }
}

fn agrees<T: Element, H: AdapterElement<T>>(seed: u64, [m, n, k, rank]: [usize; 4], setting: Setting) {
    let operands = Operands::<T>::random(seed, m, n, k, rank);
    let Operands { a, b, scale, .. } = Operands::<H>::random(seed, m, n, k, rank);
    let lora = LoraView { a: a.view(), b: b.view(), scale };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(setting.threads).build().unwrap();
    let x = Strided::copy_of(&operands.x, setting.gap_x, setting.offset);
    let epilogue = epilogue(&operands, setting.bias, setting.gelu);
    let mut rng = rng(!seed);
    let matrices = [(); 2].map(|()| normal::<T>(&mut rng, m, n, 1.0));
    let [one, two] = [(0, 3), (1, 2)].map(|(i, gap)| Strided::copy_of(&matrices[i], gap, setting.offset + i));
    let count = match setting.residual {
        Held::Nowhere => 0,
        Held::InY | Held::InOne => 1,
        Held::InTwo => 2,
    };
    let residuals = &[one.view(), two.view()][..count];
    for strategy in Strategy::ALL {
        let expected = expected_of(&operands, lora, strategy, &epilogue, residuals);
        for simd in Simd::available() {
            let layer = Layer::with_simd(simd, operands.w.view()).unwrap().with_epilogue(&epilogue).unwrap();
            let adapter = Adapter::with_simd(simd, a.view(), b.view(), scale).unwrap();
            let layer = layer.with_adapter(adapter).unwrap();
            let mut y = Strided::poisoned(m, n, setting.gap_y, setting.offset);
            let mut workspace = Workspace::new();
            let mut call = |y: &mut Strided<T>| {
                let residual = match setting.residual {
                    Held::Nowhere => Residual::None,
                    Held::InY => Residual::Output,
                    Held::InOne => Residual::Matrix(one.view()),
                    Held::InTwo => Residual::Sum(one.view(), two.view()),
                };
                if setting.residual == Held::InY {
                    y.view_mut().assign(&one.view());
                }
                pool.install(|| {
                    layer
                        .call(x.view())
                        .residual(residual)
                        .strategy(strategy)
                        .run(y.view_mut(), &mut workspace)
                })
            };
            call(&mut y).unwrap();
            let types = format!("{} with {}", T::DTYPE, H::DTYPE);
            let case = || format!("{simd} {types} {strategy} m {m} n {n} k {k} rank {rank} {setting:?}");
            if let Err(mismatch) = reference::check(&expected, y.view()) {
                panic!("{}: {mismatch}", case());
            }
            assert!(y.gaps_are_untouched(), "{}: wrote between the rows of y", case());
            // The second call finds a workspace in use, and y holding the first one's result. Whether h is
            // ready when a panel of W comes to it is another matter in each call, and must not show.
            let first = y.view().to_owned();
            call(&mut y).unwrap();
            assert_eq!(y.view(), first, "{}: the second call differs", case());
        }
    }
}

fn edge() -> impl proptest::strategy::Strategy<Value = usize> {
    prop_oneof![
        3 => proptest::sample::select(vec![
            1usize, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 95, 96, 97, 127, 128,
            129,
        ]),
        1 => 1usize..200,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_any_memory(
        m in edge(),
        n in edge(),
        k in prop_oneof![4 => edge(), 1 => proptest::sample::select(vec![1023usize, 1024, 1025, 2049])],
        rank in proptest::sample::select(vec![0usize, 1, 2, 7, 8, 10, 15, 16, 17, 47, 48, 49, 100, 250]),
        gap_x in 0usize..5,
        gap_y in 0usize..5,
        offset in 0usize..4,
        bias: bool,
        gelu: bool,
        residual in proptest::sample::select(vec![Held::Nowhere, Held::InY, Held::InOne, Held::InTwo]),
        threads in 1usize..=5,
        types in proptest::sample::select(ALL_TYPES.to_vec()),
        seed: u64,
    ) {
        let setting = Setting { gap_x, gap_y, offset, bias, gelu, residual, threads };
        agrees_with_the_reference(seed, types, [m, n, k, rank], setting);
    }
}

#[test]
fn every_tile_height_and_width() {
    for types in ALL_TYPES {
        for setting in [PLAIN, Setting { bias: true, gelu: true, residual: Held::InOne, ..PLAIN }] {
            // Two tiles of AMX have 33 rows.
            for m in 1..=33 {
                agrees_with_the_reference(m as u64, types, [m, 3 * m + 1, 33, m], setting);
            }
            for n in 1..=97 {
                agrees_with_the_reference(n as u64, types, [5, n, 9, 3], setting);
            }
        }
    }
}

/// Rows apart, together, and both; one K block and several.
#[test]
fn every_way_to_split_the_work() {
    for types in ALL_TYPES {
        for (m, threads) in [(200, 2), (40, 2), (65, 2), (200, 7), (1, 3), (131, 1)] {
            for k in [1024, 2600] {
                for (gelu, residual) in [(false, Held::Nowhere), (true, Held::InY)] {
                    let setting = Setting { bias: true, gelu, residual, threads, ..PLAIN };
                    agrees_with_the_reference(m as u64, types, [m, 106, k, 17], setting);
                }
            }
        }
    }
}

/// Of 7,000 sums of that deviation some are so far below zero that GELU is subnormal.
#[test]
fn gelu_far_below_zero() {
    let setting = Setting { bias: true, gelu: true, threads: 1, ..PLAIN };
    agrees_with_the_reference(9_578_380_737_999_756_161, (DType::Bf16, false), [145, 48, 8, 250], setting);
}

#[test]
fn fused_and_unfused_round_h_alike() {
    // With W = 0 both are nothing but the expand of the same h.
    let mut operands = Operands::random(7, 33, 70, 129, 20);
    operands.w.fill(f16::ZERO);
    for simd in Simd::available() {
        let layer = layer(simd, &operands, false);
        let [fused, unfused] =
            [Strategy::Fused, Strategy::Unfused].map(|s| run(&layer, s, operands.x.view()));
        assert_eq!(fused, unfused, "{simd}");
    }
}

fn run(layer: &Layer, strategy: Strategy, x: ArrayView2<'_, f16>) -> Array2<f16> {
    let mut y = Array2::from_elem((x.nrows(), layer.out_features()), f16::NAN);
    layer.call(x).strategy(strategy).run(y.view_mut(), &mut Workspace::new()).unwrap();
    y
}

#[test]
fn rank_zero_is_the_base_product_bit_for_bit() {
    let operands = Operands::random(3, 70, 100, 65, 0);
    for simd in Simd::available() {
        let layer = layer(simd, &operands, true);
        let base = run(&layer, Strategy::Base, operands.x.view());
        for strategy in [Strategy::Fused, Strategy::Unfused] {
            assert_eq!(run(&layer, strategy, operands.x.view()), base, "{simd} {strategy}");
        }
    }
}

#[test]
fn the_adapter_can_be_changed_and_dropped() {
    let operands = Operands::random(4, 20, 50, 40, 9);
    let other = Operands::<f16>::random(5, 20, 50, 40, 21);
    for simd in Simd::available() {
        let mut layer = layer(simd, &operands, false);
        let x = operands.x.view();
        let first = run(&layer, Strategy::Fused, x);
        let second = Adapter::with_simd(simd, other.a.view(), other.b.view(), other.scale).unwrap();
        let kept = layer.set_adapter(Some(second)).unwrap().unwrap();
        assert_eq!(layer.rank(), 21);
        let changed =
            Operands { x: operands.x.clone(), w: operands.w.clone(), ..Operands::random(5, 20, 50, 40, 21) };
        reference::check(&expected(&changed, Strategy::Fused, false), run(&layer, Strategy::Fused, x).view())
            .unwrap();
        assert_eq!(layer.set_adapter(None).unwrap().unwrap().rank(), 21);
        assert_eq!(run(&layer, Strategy::Fused, x), run(&layer, Strategy::Base, x));
        layer.set_adapter(Some(kept)).unwrap();
        assert_eq!(run(&layer, Strategy::Fused, x), first);
    }
}

#[test]
fn a_clone_shares_w_and_not_the_adapter() {
    let operands = Operands::random(6, 8, 24, 16, 4);
    let with = layer(Simd::detect().unwrap(), &operands, false);
    let mut without = with.clone();
    without.set_adapter(None).unwrap();
    assert_eq!((with.rank(), without.rank()), (4, 0));
    let x = operands.x.view();
    assert_eq!(run(&without, Strategy::Fused, x), run(&with, Strategy::Base, x));
}

#[test]
fn layers_of_different_size_share_a_workspace() {
    let mut workspace = Workspace::new();
    for (seed, [m, n, k, rank]) in
        [[100, 300, 1500, 60], [3, 5, 7, 2], [130, 20, 2100, 5]].into_iter().enumerate()
    {
        let operands = Operands::random(seed as u64, m, n, k, rank);
        for simd in Simd::available() {
            for strategy in Strategy::ALL {
                let mut y = Array2::from_elem((m, n), f16::NAN);
                let layer = layer(simd, &operands, false);
                layer.call(operands.x.view()).strategy(strategy).run(y.view_mut(), &mut workspace).unwrap();
                reference::check(&expected(&operands, strategy, false), y.view()).unwrap();
            }
        }
    }
}

#[test]
fn x_may_run_backwards_and_repeat() {
    let operands = Operands::random(8, 20, 30, 40, 6);
    for simd in Simd::available() {
        let layer = layer(simd, &operands, false);
        let whole = run(&layer, Strategy::Fused, operands.x.view());
        let reversed = run(&layer, Strategy::Fused, operands.x.slice(s![..;-1, ..]));
        assert_eq!(reversed, whole.slice(s![..;-1, ..]), "{simd}");
        let row = operands.x.row(3);
        let repeated = run(&layer, Strategy::Fused, row.broadcast((20, 40)).unwrap());
        assert!(repeated.outer_iter().all(|y| y == whole.row(3)), "{simd}");
    }
}

#[test]
fn nan_stays_in_its_row() {
    let mut operands = Operands::random(9, 70, 50, 90, 12);
    operands.x[[13, 89]] = f16::NAN;
    for simd in Simd::available() {
        let layer = layer(simd, &operands, true);
        for strategy in Strategy::ALL {
            let y = run(&layer, strategy, operands.x.view());
            for (i, row) in y.outer_iter().enumerate() {
                assert!(row.iter().all(|v| v.is_nan() == (i == 13)), "{simd} {strategy} row {i}");
            }
        }
    }
}

#[test]
fn y_overflows_to_infinity_and_h_does_not() {
    // y: 2 · 60000 overflows; -2 · 60000 to the other side; 60000 does not.
    let (x, w) = (array![[1.0f32, 1.0]], array![[60000.0, 60000.0], [-60000.0, -60000.0], [60000.0, 0.0]]);
    // h: 2 · 60000 is beyond f16; two of the three sums come back from beyond it.
    let (a, b) = (array![[60000.0, 60000.0]], array![[1.0], [0.75], [-1.0]]);
    let [x, w, a, b] = [x, w, a, b].map(|m| m.mapv(f16::from_f32));
    for simd in Simd::available() {
        let mut layer = Layer::with_simd(simd, w.view()).unwrap();
        let base = run(&layer, Strategy::Base, x.view());
        assert_eq!(base.row(0).to_vec(), [f16::INFINITY, f16::NEG_INFINITY, f16::from_f32(60000.0)]);
        layer.set_adapter(Some(Adapter::with_simd(simd, a.view(), b.view(), 1.0).unwrap())).unwrap();
        for strategy in [Strategy::Fused, Strategy::Unfused] {
            let y = run(&layer, strategy, x.view());
            // `unfused` stores y between the products.
            let second = if strategy == Strategy::Fused { -30000.0 } else { f32::NEG_INFINITY };
            let expected = [f32::INFINITY, second, -60000.0].map(f16::from_f32);
            assert_eq!(y.row(0).to_vec(), expected, "{simd} {strategy}");
        }
    }
}

/// Only rows whose inputs are finite are judged, and the first of them is named.
#[test]
fn a_checked_call_names_what_overflows() {
    let [one, inf, large] = [f16::ONE, f16::INFINITY, f16::from_f32(40000.0)];
    let (x, w) = (array![[inf], [one], [one]], array![[one], [large]]);
    let layer: Layer = Layer::new(w.view()).unwrap();
    let residual = |rows: [f16; 3]| Array2::from_shape_fn((3, 2), |(i, _)| rows[i]);
    let error = Error::NotFinite { row: 1, column: 1, value: f32::INFINITY, dtype: DType::F16 };
    for (rows, expected) in
        [([one, one, one], Ok(())), ([inf, inf, one], Ok(())), ([one, large, large], Err(error))]
    {
        let (matrix, mut y) = (residual(rows), residual(rows));
        let workspace = &mut Workspace::new();
        let output = layer.call(x.view()).residual(Residual::Output).run_checked(y.view_mut(), workspace);
        assert_eq!(output, expected);
        let call = layer.call(x.view()).residual(Residual::Matrix(matrix.view()));
        assert_eq!(call.run_checked(y.view_mut(), workspace), expected);
    }
    let shape = layer.call(x.view()).run_checked(Array2::zeros((2, 2)).view_mut(), &mut Workspace::new());
    assert!(matches!(shape, Err(Error::Shape { .. })));
}

/// Bias, activation, residual, in this order, and one rounding: on numbers that tell each of it from the
/// others.
#[test]
fn the_order_of_the_epilogue() {
    let [one, minus_two] = [1.0, -2.0].map(f16::from_f32);
    let (x, w) = (array![[one]], array![[one], [minus_two]]);
    let epilogue = Epilogue::bias(array![minus_two, one]).with_activation(Activation::GeluTanh);
    // 1 - 2 and -2 + 1; GELU(-1) is -0.158808.
    let residual = array![[f16::from_f32(0.5), f16::from_f32(-3.0)]];
    for simd in Simd::available() {
        let layer = Layer::with_simd(simd, w.view()).unwrap().with_epilogue(&epilogue).unwrap();
        let mut y = residual.clone();
        let mut workspace = Workspace::new();
        layer
            .call(x.view())
            .residual(Residual::Output)
            .strategy(Strategy::Base)
            .run(y.view_mut(), &mut workspace)
            .unwrap();
        assert_eq!(y, array![[f16::from_f32(0.341_192), f16::from_f32(-3.158_808)]], "{simd}");
        // Without a residual what y holds is of no account, and without an epilogue there is none.
        layer.call(x.view()).run(y.view_mut(), &mut workspace).unwrap();
        assert_eq!(y, Array2::from_elem((1, 2), f16::from_f32(-0.158_808)), "{simd}");
        let bare = layer.clone().with_epilogue(Epilogue::NONE).unwrap();
        bare.call(x.view()).run(y.view_mut(), &mut workspace).unwrap();
        assert_eq!(y, array![[one, minus_two]], "{simd}");
    }
}

#[test]
fn a_residual_may_run_backwards_and_repeat() {
    let operands = Operands::random(11, 20, 50, 40, 6);
    let residual = normal(&mut rng(12), 20, 50, 1.0);
    for simd in Simd::available() {
        let layer = layer(simd, &operands, true);
        let with = |residual: ArrayView2<'_, f16>| {
            let mut y = Array2::from_elem((20, 50), f16::NAN);
            let (x, residual) = (operands.x.view(), Residual::Matrix(residual));
            layer.call(x).residual(residual).run(y.view_mut(), &mut Workspace::new()).unwrap();
            y
        };
        for view in [residual.slice(s![..;-1, ..]), residual.row(3).broadcast((20, 50)).unwrap()] {
            assert_eq!(with(view), with(view.to_owned().view()), "{simd}");
        }
    }
}

#[test]
fn small_values_survive_as_subnormals() {
    let mut rng = rng(10);
    let x = normal(&mut rng, 20, 64, 1.0);
    let w = normal(&mut rng, 40, 64, 2f32.powi(-18));
    let inputs = Inputs { x: x.view(), w: w.view(), adapter: None::<LoraView<'_>>, epilogue: Epilogue::NONE };
    let expected = reference::forward(&inputs, Strategy::Base).unwrap();
    for simd in Simd::available() {
        let y = run(&Layer::with_simd(simd, w.view()).unwrap(), Strategy::Base, x.view());
        assert!(y.iter().any(|v| v.to_f32() != 0.0 && v.to_f32().abs() < f16::MIN_POSITIVE.to_f32()));
        reference::check_elements(&expected, y.view()).unwrap();
    }
}

#[test]
fn exact_sums_give_the_rounded_reference_bit_for_bit() {
    // Small integers: every sum is exact in f32, so only the rounding of y is left.
    let int = |rows, columns, seed: usize| {
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            f16::from_f32(((i * 7 + j * 3 + seed) % 9) as f32 - 4.0)
        })
    };
    let (x, w, a, b) = (int(67, 130, 1), int(101, 130, 2), int(19, 130, 3), int(101, 19, 4));
    let lora = LoraView { a: a.view(), b: b.view(), scale: 0.25 };
    let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(lora), epilogue: Epilogue::NONE };
    let exact = reference::forward_summed(&inputs, &[], Strategy::Fused, Sums::OneByOne);
    let exact = exact.unwrap().y.mapv(f16::from_f64);
    for simd in Simd::available() {
        let adapter = Adapter::with_simd(simd, a.view(), b.view(), 0.25).unwrap();
        let layer = Layer::with_simd(simd, w.view()).unwrap().with_adapter(adapter).unwrap();
        assert_eq!(run(&layer, Strategy::Fused, x.view()), exact, "{simd}");
    }
}

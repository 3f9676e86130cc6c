//! The error bound of every type on numbers made to reach it, at every level.

use fused_lora::{
    AdapterElement, DType, Element, Epilogue, Strategy,
    cpu::{Adapter, Layer, Simd, Workspace},
    reference::{self, Inputs, LoraView, Sums},
};
use half::{bf16, f16};
use ndarray::{Array2, array};

/// The largest error of y at a level, as a part of its bound; more than 1 is a failure.
fn part_of_bound<T: Element, H: AdapterElement<T>>(simd: Simd, inputs: &Inputs<'_, T, H>) -> f64 {
    let expected = reference::forward_summed(inputs, &[], Strategy::Fused, Sums::OneByOne).unwrap();
    let mut layer = Layer::with_simd(simd, inputs.w).unwrap();
    if let Some(LoraView { a, b, scale }) = inputs.adapter {
        layer.set_adapter(Some(Adapter::with_simd(simd, a, b, scale).unwrap())).unwrap();
    }
    let mut y = Array2::from_elem(expected.y.dim(), T::from_f32(f32::NAN));
    layer.call(inputs.x).run(y.view_mut(), &mut Workspace::new()).unwrap();
    let parts = y.indexed_iter().map(|(at, y)| (y.to_f64() - expected.y[at]).abs() / expected.tolerance[at]);
    parts.fold(0.0, |most, part| if part.is_nan() { f64::INFINITY } else { most.max(part) })
}

fn base<T: Element>(x: &Array2<T>, w: &Array2<T>, simd: Simd) -> f64 {
    let (x, w, epilogue) = (x.view(), w.view(), Epilogue::NONE);
    part_of_bound(simd, &Inputs { x, w, adapter: None::<LoraView<'_, f32>>, epilogue })
}

/// A sum that starts at 1 and gets what is a little more than half of its last place again and again, which
/// is rounded up each time; then 1 is taken away, so that y has no error of its own to hide it in.
fn rounded_up_each_time<T: Element>(k: usize) -> [Array2<T>; 2] {
    // 2⁻²⁴ (1 + 2⁻⁷), as a product of two numbers that every type has.
    let term = [2f32.powi(-12), 2f32.powi(-12) * (1.0 + 2f32.powi(-7))];
    let row = |value: f32, last: f32| {
        Array2::from_shape_fn((1, k), |(_, i)| match i {
            0 => T::from_f32(1.0),
            i if i + 2 >= k => T::from_f32(last),
            // A sum of f32 restarts every 64 terms: one of them in each of the later sums.
            i if T::DTYPE == DType::F32 && i >= 64 && i % 64 != 0 => T::from_f32(0.0),
            _ => T::from_f32(value),
        })
    };
    // Two of the last: an even K, so that pairs of it are whole.
    [row(term[0], 0.5), row(term[1], -1.0)]
}

fn sums_reach_the_bound_in<T: Element>() {
    for k in [64, 1024, 4096] {
        let [x, w] = rounded_up_each_time::<T>(k);
        for simd in Simd::available() {
            let part = base(&x, &w, simd);
            // Products of pairs are added one by one as well; in tiles, and where there is no FMA
            // instruction, sums are made in another order, which is allowed to be more exact.
            let in_order = matches!(simd.serving(T::DTYPE), Simd::Avx512 | Simd::Avx2 | Simd::Avx512Bf16);
            assert!(part <= 1.0, "{} {simd} K {k}: {part} of the bound", T::DTYPE);
            assert!(part >= 0.125 || !in_order, "{} {simd} K {k}: only {part} of the bound", T::DTYPE);
        }
    }
}

#[test]
fn sums_reach_an_eighth_of_the_bound_and_not_all_of_it() {
    sums_reach_the_bound_in::<f16>();
    sums_reach_the_bound_in::<bf16>();
    sums_reach_the_bound_in::<f32>();
}

/// y on a tie, and h on one: either is off by half a unit in its last place.
fn roundings_reach_the_bound_in<T: Element + AdapterElement<T>>(unit: f32) {
    let of = |value: f32| T::from_f32(value);
    let (x, w) = (array![[of(1.0), of(1.0)]], array![[of(1.0), of(unit)]]);
    // h = 1 + unit, a tie; B makes 1 of it, so that y has no error of its own but that of h.
    let (zero, a, b) = (Array2::from_elem((1, 2), of(0.0)), array![[of(1.0), of(unit)]], array![[of(1.0)]]);
    let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: 1.0 + unit });
    for simd in Simd::available() {
        for (what, w, adapter) in [("y", &w, None), ("h", &zero, adapter)] {
            let inputs = Inputs { x: x.view(), w: w.view(), adapter, epilogue: Epilogue::NONE };
            let part = part_of_bound::<T, T>(simd, &inputs);
            assert!(part <= 1.0, "{} {simd} {what}: {part} of the bound", T::DTYPE);
            assert!(part >= 0.125 || what == "h", "{} {simd} {what}: only {part} of the bound", T::DTYPE);
        }
    }
}

#[test]
fn roundings_reach_an_eighth_of_the_bound() {
    roundings_reach_the_bound_in::<f16>(2f32.powi(-11));
    roundings_reach_the_bound_in::<bf16>(2f32.powi(-8));
}

/// Numbers below 2⁻¹²⁶, which bf16's instructions take for zero.
#[test]
fn subnormal_numbers_of_bf16_are_within_the_bound() {
    let tiny = bf16::from_bits(0x0040);
    assert!(tiny.to_f32() > 0.0 && !tiny.is_normal());
    let (x, w) = (Array2::from_elem((1, 64), tiny), Array2::from_elem((1, 64), bf16::from_f32(1.0)));
    for simd in Simd::available() {
        let part = base(&x, &w, simd);
        assert!(part <= 1.0, "{simd}: {part} of the bound");
    }
}

/// An f32 adapter of a bf16 layer, computed in parts: as near to PEFT's own f32 as f32 is, seen beside bf16.
#[test]
fn an_f32_adapter_is_not_rounded_to_bf16() {
    let (k, n, rank) = (256, 64, 16);
    let value = |i: usize, j: usize| (((i * 31 + j * 17) % 97) as f32 - 48.0) / 97.0;
    let x = Array2::from_shape_fn((3, k), |(i, j)| bf16::from_f32(value(i, j)));
    let w = Array2::from_elem((n, k), bf16::ZERO);
    let a = Array2::from_shape_fn((rank, k), |(i, j)| value(i + 5, j) * 0.333);
    let b = Array2::from_shape_fn((n, rank), |(i, j)| value(i, j + 3) * 0.777);
    let lora = LoraView { a: a.view(), b: b.view(), scale: 1.3 };
    let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(lora), epilogue: Epilogue::NONE };
    let exact = reference::forward_summed(&inputs, &[], Strategy::Fused, Sums::OneByOne).unwrap().y;
    for simd in Simd::available() {
        // With W = 0, y is the adapter's share, and its one rounding is y's.
        let adapter = Adapter::with_simd(simd, a.view(), b.view(), 1.3).unwrap();
        assert_eq!(adapter.dtype(), DType::F32);
        let layer = Layer::with_simd(simd, w.view()).unwrap().with_adapter(adapter).unwrap();
        let mut y = Array2::from_elem((3, n), bf16::NAN);
        layer.call(x.view()).run(y.view_mut(), &mut Workspace::new()).unwrap();
        for (at, y) in y.indexed_iter() {
            let off = (y.to_f64() - exact[at]).abs();
            assert!(
                off <= 2f64.powi(-8) * exact[at].abs() + 2f64.powi(-15),
                "{simd} {at:?}: {y} {}",
                exact[at]
            );
        }
    }
}

//! Elementary functions, within the errors of the manual; `fma`, to the bit.

use rand::RngExt as _;

use crate::{
    inputs,
    launch::{assert_words, run},
};

/// An f32 that the manual takes for zero.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// Distance between floats of the binade of `x`, not 0.
fn ulp(x: f64) -> f64 {
    2f64.powi(((x.to_bits() >> 52 & 0x7ff) as i32 - 1023).max(-126) - 23)
}

/// All kinds of f32: any bits, what is around powers of two, zeros, infinities, NaN, and numbers up to 64.
fn values(seed: u64) -> Vec<f32> {
    let mut rng = inputs::generator(seed);
    let mut values: Vec<f32> = (0..20_000).map(|_| f32::from_bits(rng.random())).collect();
    values.extend((0..20_000).map(|_| rng.random_range(-64.0f32..64.0)));
    let powers = (0..=255u32).map(|exponent| f32::from_bits(exponent << 23));
    values.extend(powers.flat_map(|x| [x.next_down(), x, x.next_up()]));
    values.extend((-152..=130).map(|x| x as f32).flat_map(|x| [x.next_down(), x, x.next_up()]));
    values.extend([f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, f32::MAX, 0.0, 1e-45]);
    values.extend(values.clone().iter().map(|x| -x));
    values.resize(values.len().next_multiple_of(128), 1.0);
    values
}

/// Holds `name` to `function`, with an error of at most `bound` (x, exact value) from the exact value, and to
/// the exact value where that is no number, 0 or infinite.
#[track_caller]
fn check(name: &str, function: impl Fn(f64) -> f64, bound: impl Fn(f64) -> f64) {
    let values = values(1);
    let input: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
    for outcome in run(name, input.len() / 128, &input) {
        for (&x, &found) in values.iter().zip(&outcome.output) {
            let (exact, found) = (function(f64::from(flush(x))), f32::from_bits(found));
            // What the function is in f32: infinite beyond its range, zero below that of normal numbers.
            let nearest = flush(exact as f32);
            let right = if nearest.is_nan() {
                found.is_nan()
            } else if !nearest.is_finite() || nearest == 0.0 {
                // On the boundary of the normal numbers either will do.
                found == nearest && found.is_sign_negative() == nearest.is_sign_negative()
                    || found.abs() <= f32::MIN_POSITIVE && nearest == 0.0
            } else {
                (f64::from(found) - exact).abs() <= bound(exact)
                    || found == 0.0 && nearest.abs() <= 2.0 * f32::MIN_POSITIVE
            };
            assert!(right, "{name} by {}: of {x:e} is {found:e}, not {exact:e}", outcome.by);
        }
    }
}

#[test]
fn ex2_approx() {
    // 2 ulp from the rounded value, which is half an ulp from the exact one.
    check("ex2_approx", f64::exp2, |exact| 2.5 * ulp(f64::from(exact as f32)));
}

#[test]
fn rcp_approx() {
    check("rcp_approx", |x| 1.0 / x, ulp);
}

#[test]
fn rsqrt_approx() {
    check("rsqrt_approx", |x| 1.0 / x.sqrt(), |exact| exact * 2f64.powf(-22.9));
}

/// Products of f32 are exact in f64, and with sums of which it holds, too, rounding once is rounding that
/// f64.
#[test]
fn fma_rounds_once() {
    let mut rng = inputs::generator(2);
    let mut input = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..40 * 64 {
        // 24 bits each: the product has 48, the sum with a c of its lower half is exact in 53.
        let [a, b] = [0; 2].map(|_| f64::from(rng.random_range(-(1 << 24)..1i32 << 24)));
        let c = f64::from(rng.random_range(-(1 << 20)..1i32 << 20)) * 16.0;
        input.extend([a, b, c].map(|x| (x as f32).to_bits()));
        expected.push(((a * b + c) as f32).to_bits());
    }
    // Rounded twice, some of them are others.
    let twice = input.chunks(3).zip(&expected).filter(|(of, once)| {
        let [a, b, c] = [of[0], of[1], of[2]].map(f32::from_bits);
        (a * b + c).to_bits() != **once
    });
    assert!(twice.count() > 50);
    for outcome in run("fma", input.len() / 192, &input) {
        assert_words("fma", &outcome, &expected, |found, expected| {
            found == expected || f32::from_bits(found) == f32::from_bits(expected)
        });
    }
}

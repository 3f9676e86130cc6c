//! `cvt`, over all f16 and around every boundary between them.

use rand::RngExt as _;

use crate::{
    inputs,
    launch::{assert_words, run},
};

/// The value of an f16 that is no NaN, from its sign, exponent and mantissa. IEEE 754, binary16.
fn value(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 => f64::INFINITY,
        _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    }
}

fn is_nan(bits: u16) -> bool {
    bits & 0x7fff > 0x7c00
}

/// f32 to the nearest f16, ties to even, from what that means: to the nearest multiple of the spacing there
/// is around x. `None` for NaN.
fn nearest(x: f32) -> Option<u16> {
    if x.is_nan() {
        return None;
    }
    let sign = u16::from(x.is_sign_negative()) << 15;
    let x = f64::from(x.abs());
    // Half of the spacing above the largest f16, 65504.
    if x >= 65520.0 {
        return Some(sign | 0x7c00);
    }
    // 2^exponent ≤ x, but not below the smallest normal f16.
    let exponent = if x < 2f64.powi(-14) { -14 } else { ((x.to_bits() >> 52) as i32) - 1023 };
    let multiples = (x / 2f64.powi(exponent - 10)).round_ties_even() as u16;
    // For normal numbers, 1024 of the multiples are the leading one, which counts up the exponent, as does a
    // carry.
    let bits = multiples + ((exponent + 14) as u16) * 1024;
    Some(sign | bits)
}

#[test]
fn f16_to_f32_of_all() {
    let input: Vec<u32> =
        (0..=u16::MAX).step_by(2).map(|low| u32::from(low) | u32::from(low + 1) << 16).collect();
    let expected: Vec<u32> = (0..=u16::MAX)
        .map(|bits| if is_nan(bits) { f32::NAN } else { value(bits) as f32 }.to_bits())
        .collect();
    for outcome in run("f16_to_f32", input.len() / 128, &input) {
        assert_words("f16_to_f32", &outcome, &expected, |found, expected| {
            found == expected || f32::from_bits(found).is_nan() && f32::from_bits(expected).is_nan()
        });
    }
}

/// Holds `pack_f16x2` to [`nearest`] for each value, as lower and as upper half.
#[track_caller]
fn packs(values: &[f32]) {
    let mut input: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
    // Again by one further on, so that each is once a lower and once an upper half.
    input.push(0);
    input.extend(values.iter().map(|x| x.to_bits()));
    input.resize(input.len().next_multiple_of(256), 0);
    let items = input.len() / 256;
    for outcome in run("pack_f16x2", items, &input) {
        for (pair, &packed) in input.chunks(2).zip(&outcome.output) {
            for (x, found) in [(pair[0], packed as u16), (pair[1], (packed >> 16) as u16)] {
                let x = f32::from_bits(x);
                let right = nearest(x).map_or(is_nan(found), |expected| expected == found);
                assert!(right, "by {}: {x:e} ({:#010x}) gives {found:#06x}", outcome.by, x.to_bits());
            }
        }
    }
}

#[test]
fn pack_f16x2_around_every_boundary() {
    // All values in the middle between two f16, where ties are, and their neighbours among f32. The last is
    // 65520.
    let middles = (0..0x7c00u16).map(|bits| {
        let above = if bits == 0x7bff { 65536.0 } else { value(bits + 1) };
        ((value(bits) + above) / 2.0) as f32
    });
    let around = middles.flat_map(|x| [x.next_down(), x, x.next_up()]);
    packs(&around.flat_map(|x| [x, -x]).collect::<Vec<_>>());
}

#[test]
fn pack_f16x2_of_all_f16() {
    packs(&(0..=u16::MAX).filter(|&bits| !is_nan(bits)).map(|bits| value(bits) as f32).collect::<Vec<_>>());
}

#[test]
fn pack_f16x2_of_anything() {
    // Any bits: subnormal f32, infinities, signalling and quiet NaN among them.
    let mut rng = inputs::generator(5);
    let mut values: Vec<f32> = (0..20_000).map(|_| f32::from_bits(rng.random())).collect();
    values.extend([0.0, f32::MIN_POSITIVE, 1e-45, f32::MAX, f32::INFINITY, f32::NAN, 65504.0, 1e-8]);
    values.extend([0x7f80_0001, 0x7fbf_ffff, 0x7fc0_0000, 0xffff_ffff].map(f32::from_bits));
    values.extend(values.clone().iter().map(|x| -x));
    packs(&values);
}

#[test]
fn the_formula_is_right_where_the_answer_is_known() {
    let known = [
        (0.0, 0x0000),
        (-0.0, 0x8000),
        (1.0, 0x3c00),
        (-2.0, 0xc000),
        (65504.0, 0x7bff),
        (65519.996, 0x7bff),
        (65520.0, 0x7c00),
        (2f32.powi(-24), 0x0001),
        // Half of the smallest: to even, which is 0; a little more: up.
        (2f32.powi(-25), 0x0000),
        (2f32.powi(-25).next_up(), 0x0001),
        // From the largest subnormal to the smallest normal.
        (1023.5 * 2f32.powi(-24), 0x0400),
        // 1 + 1/2048 is a tie between 1 and 1 + 1/1024, 1 + 3/2048 one between that and 1 + 2/1024.
        (1.0 + 1.0 / 2048.0, 0x3c00),
        (1.0 + 3.0 / 2048.0, 0x3c02),
        (f32::NEG_INFINITY, 0xfc00),
    ];
    for (x, bits) in known {
        assert_eq!(nearest(x), Some(bits), "{x:e}");
    }
    assert_eq!(nearest(f32::NAN), None);
}

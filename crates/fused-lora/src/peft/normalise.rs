//! An adapter of any type in f16: powers of two move between A, B and s, so that h is no larger than y.
//!
//! With `A'ᵣ = 2^(c−jᵣ) Aᵣ` for row r of A, `B'ᵣ = 2^jᵣ Bᵣ` for column r of B and `s' = 2^-c s` a layer computes
//!
//! ```text
//! h'ᵣ = f16( s' · x A'ᵣᵀ ) = f16( 2^-jᵣ · s · x Aᵣᵀ )        y = f16( x Wᵀ + h' B'ᵀ )
//! ```
//!
//! `jᵣ` brings the largest element of the column to `[1, 2)`. Then h'ᵣ is as large as the largest term that it
//! adds to y: it overflows only where that term by itself is beyond f16. It underflows only where the term does:
//! what h' loses below 2⁻¹⁴ costs y at most 2⁻²⁴ a column, y's own smallest number. c cancels out before
//! anything is rounded; it brings the largest |A'| to the top of f16, where the most small values survive. So the
//! result does not depend on how training split the magnitude between A, B and alpha.
//!
//! f16 tensors are moved only if that loses no bit. Nothing is done about a row or column in which large and tiny
//! values stand side by side: beside the large ones the tiny ones do not count.

use half::f16;
use ndarray::{Array2, ArrayView1, Axis};

use super::tensors::Matrix;

/// Exponent to which the largest |A'| is brought: `[2¹⁴, 2¹⁵)`, one binade short of where rounding can reach
/// infinity.
const A_TOP: i32 = 14;
/// Exponent of the smallest normal f32.
const F32_LOWEST: i32 = -126;
/// The largest finite f16.
const F16_MAX: f64 = 65504.0;

/// The adapter of one module, ready for [`cpu::Adapter::new`](crate::cpu::Adapter::new).
///
/// `scale · B A` is the adapter's contribution. In f32 ([`LoraFile::load_f32`](super::LoraFile::load_f32))
/// all of it is as in the file. In f16 rows of A and columns of B may be multiplied by powers of two, so that
/// small values survive and h does not overflow where y does not; `scale` is divided by them.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraWeights<T = f16> {
    /// `[r, K]`
    pub a: Array2<T>,
    /// `[N, r]`
    pub b: Array2<T>,
    /// s, applied to `x Aᵀ` before that is rounded.
    pub scale: f32,
}

/// No power of two helps: an x of 1 makes more in y than f16 can hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overflow {
    /// Whether the value is in A (else in B).
    pub(super) of_a: bool,
    /// The value to blame.
    pub(super) value: f32,
    /// What the x of 1 becomes in y.
    pub(super) magnitude: f64,
}

/// Converts `a` [r, K] and `b` [N, r], all finite, with `scale` finite as an f32.
pub(super) fn to_f16(a: Matrix, b: Matrix, scale: f64) -> Result<LoraWeights, Overflow> {
    match (a, b) {
        (Matrix::F16(a), Matrix::F16(b)) => {
            let [wide_a, wide_b] = [&a, &b].map(|matrix| matrix.mapv(f32::from));
            match moved(&wide_a, &wide_b, scale) {
                Ok((moved, true)) => Ok(moved),
                _ => Ok(LoraWeights { a, b, scale: scale as f32 }),
            }
        }
        (a, b) => moved(&a.into_f32(), &b.into_f32(), scale).map(|(moved, _)| moved),
    }
}

/// With the powers of two in place, and whether no bit was lost.
fn moved(a: &Array2<f32>, b: &Array2<f32>, scale: f64) -> Result<(LoraWeights, bool), Overflow> {
    // Exponents of the largest elements of row r and column r; none where one of them is zero.
    let mut exponents = Vec::with_capacity(a.nrows());
    for (row, column) in a.axis_iter(Axis(0)).zip(b.axis_iter(Axis(1))) {
        let [a, b] = [largest(row), largest(column)];
        let magnitude = scale.abs() * a * b;
        if magnitude > F16_MAX {
            return Err(Overflow { of_a: a > b, value: a.max(b) as f32, magnitude });
        }
        exponents.push(exponent(a).zip(exponent(b)));
    }
    let live = || exponents.iter().flatten();
    // Not so large that s' would leave the normal f32 numbers; h' is then far below what f16 can hold,
    // wherever A' is.
    let most = exponent(scale.abs()).map_or(0, |s| s - F32_LOWEST);
    let c = live().map(|(a, b)| A_TOP - a - b).min().map_or(0, |c| c.min(most));

    let mut exact = true;
    let mut shifted = |value: f32, shift: Option<i32>| {
        // A pair with a zero in it adds nothing, and its other half could be anything.
        let Some(shift) = shift else { return f16::ZERO };
        let wide = f64::from(value) * 2f64.powi(shift);
        let narrow = f16::from_f32(wide as f32);
        exact &= narrow.to_f64() == wide;
        narrow
    };
    let shift_a = |r: usize| exponents[r].map(|(_, b)| c + b);
    let shift_b = |r: usize| exponents[r].map(|(_, b)| -b);
    let a = Array2::from_shape_fn(a.dim(), |(r, k)| shifted(a[[r, k]], shift_a(r)));
    let b = Array2::from_shape_fn(b.dim(), |(n, r)| shifted(b[[n, r]], shift_b(r)));
    Ok((LoraWeights { a, b, scale: (scale * 2f64.powi(-c)) as f32 }, exact))
}

fn largest(values: ArrayView1<'_, f32>) -> f64 {
    values.iter().fold(0.0, |largest, value| f64::max(largest, f64::from(value.abs())))
}

/// The e of `2^e ≤ v < 2^(e+1)`, none for zero. f64's subnormal numbers count as the smallest normal one.
fn exponent(v: f64) -> Option<i32> {
    const BIAS: i32 = 1023;
    (v != 0.0).then(|| (((v.to_bits() >> 52) & 0x7ff) as i32 - BIAS).max(1 - BIAS))
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;
    use proptest::prelude::*;

    use super::*;

    fn exp2(e: i32) -> f32 {
        2f64.powi(e) as f32
    }

    /// An adapter of rank 1.
    fn convert(a: &[f32], b: &[f32], scale: f64) -> Result<LoraWeights, Overflow> {
        let matrix = |v: &[f32], shape| Matrix::F32(Array2::from_shape_vec(shape, v.to_vec()).unwrap());
        to_f16(matrix(a, (1, a.len())), matrix(b, (b.len(), 1)), scale)
    }

    #[test]
    fn exponents() {
        for (v, e) in
            [(1.0, 0), (1.5, 0), (2.0, 1), (0.75, -1), (f64::from(exp2(-149)), -149), (1e-320, -1022)]
        {
            assert_eq!(exponent(v), Some(e), "{v}");
        }
        assert_eq!(exponent(0.0), None);
    }

    /// Whatever the column of B, h' is as large as the largest term of y.
    #[test]
    fn each_column_of_b_is_brought_to_one() {
        let (a, b) = (arr2(&[[0.5f32, 1e-7], [-3e4, 0.0]]), arr2(&[[1e-3f32, 2e-9], [-0.25, 7e-10]]));
        let lora = to_f16(Matrix::F32(a.clone()), Matrix::F32(b.clone()), 1.6).unwrap();
        for r in 0..2 {
            let [h, b_max, term] = [
                lora.a.row(r).iter().fold(0.0, |m, v| f64::max(m, v.to_f64().abs())) * f64::from(lora.scale),
                lora.b.column(r).iter().fold(0.0, |m, v| f64::max(m, v.to_f64().abs())),
                1.6 * largest(a.row(r)) * largest(b.column(r)),
            ];
            assert!((1.0..2.0).contains(&b_max), "{b_max}");
            assert!(h <= term * 1.001 && h * 2.0 > term, "{h} {term}");
        }
        assert!(lora.a[[0, 1]].is_normal());
    }

    #[test]
    fn f16_is_moved_without_losing_a_bit_or_not_at_all() {
        let f16s = |bits: &[u16]| bits.iter().map(|&b| f16::from_bits(b)).collect::<Vec<_>>();
        // h = 60000 · 8, which y brings back: B's subnormals are raised.
        let (a, b) = (arr2(&[[f16::from_f32(60000.0)]]), arr2(&[[f16::from_bits(3)], [f16::from_bits(2)]]));
        let lora = to_f16(Matrix::F16(a.clone()), Matrix::F16(b.clone()), 8.0).unwrap();
        assert_eq!(lora.b, arr2(&[[f16::from_f32(1.5)], [f16::ONE]]));
        let exact = |a: f16, b: f16, s: f64| a.to_f64() * b.to_f64() * s;
        for n in 0..2 {
            assert_eq!(
                exact(lora.a[[0, 0]], lora.b[[n, 0]], lora.scale.into()),
                exact(a[[0, 0]], b[[n, 0]], 8.0)
            );
        }
        // The largest number beside the smallest one: A's row cannot be lowered, so all stays as it is.
        let a = Array2::from_shape_vec((2, 2), f16s(&[0x0001, 0x7bff, 0x7bff, 0x7bff])).unwrap();
        let b = Array2::from_shape_vec((1, 2), f16s(&[0x0001, 0x3c00])).unwrap();
        let lora = to_f16(Matrix::F16(a.clone()), Matrix::F16(b.clone()), 0.1).unwrap();
        assert_eq!(lora, LoraWeights { a, b, scale: 0.1 });
        // Beyond y's range as well: what the file says, at any scale.
        let large = || Matrix::F16(arr2(&[[f16::from_f32(60000.0)]]));
        assert_eq!(to_f16(large(), large(), 100.0).unwrap().scale, 100.0);
    }

    #[test]
    fn what_adds_nothing_is_zero_and_the_scale_is_kept() {
        for (a, b, scale) in [(0.0, 0.5, 2.0), (0.5, 0.0, 2.0), (0.0, 3e38, 3e38), (1e-38, 0.0, 1e38)] {
            let zero = arr2(&[[f16::ZERO]]);
            let expected = LoraWeights { a: zero.clone(), b: zero, scale: scale as f32 };
            assert_eq!(convert(&[a], &[b], scale).unwrap(), expected);
        }
        let lora = convert(&[0.5], &[0.5], 0.0).unwrap();
        assert_eq!(lora.scale, 0.0);
        assert!(lora.a[[0, 0]].is_finite() && lora.b[[0, 0]].is_finite());
    }

    #[test]
    fn tiny_scales_do_not_become_zero_but_negative_ones_stay_negative() {
        let lora = convert(&[1e-30], &[1e-3], -1e-30).unwrap();
        assert!(lora.scale.is_normal() && lora.scale < 0.0, "{lora:?}");
        for scale in [1e-300, f64::from(f32::MIN_POSITIVE)] {
            let lora = convert(&[0.5], &[0.5], scale).unwrap();
            assert!(lora.scale.is_normal() && lora.scale > 0.0, "{lora:?}");
        }
    }

    /// The blame goes to the larger factor.
    #[test]
    fn only_what_overflows_y_is_an_error() {
        let error = convert(&[0.3], &[1e6], 1.6).unwrap_err();
        assert_eq!((error.of_a, error.value), (false, 1e6));
        assert!(convert(&[1e6], &[0.3], 1.6).unwrap_err().of_a);
        convert(&[0.3], &[1e6], 0.01).unwrap();
        convert(&[1e6], &[0.3], 0.01).unwrap();
        // h of each column fits beside its own B, however different the columns are.
        let (a, b) = (arr2(&[[1e6], [1e-3]]), arr2(&[[1e-6, 1e4]]));
        to_f16(Matrix::F32(a), Matrix::F32(b), 1.0).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 2000,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// s·a·b before and after, for every pair that f16 holds as normal numbers.
        #[test]
        fn products_survive(
            a in prop::collection::vec(-1f32..1.0, 1..6),
            b in prop::collection::vec(-1f32..1.0, 1..6),
            (a_power, b_power, s_power) in (-100..100, -100..100, -60..60),
            s in 0.5f64..2.0,
        ) {
            let a: Vec<f32> = a.iter().map(|v| v * exp2(a_power)).collect();
            let b: Vec<f32> = b.iter().map(|v| v * exp2(b_power)).collect();
            let s = s * 2f64.powi(s_power);
            let largest = |v: &[f32]| v.iter().fold(0f64, |m, &v| m.max(f64::from(v).abs()));
            let unit = s * largest(&a) * largest(&b);
            match convert(&a, &b, s) {
                Err(_) => prop_assert!(unit > F16_MAX, "{unit}"),
                Ok(lora) => {
                    prop_assert!(unit <= F16_MAX);
                    prop_assert!(lora.scale.is_normal());
                    for (&a, &a16) in a.iter().zip(&lora.a) {
                        for (&b, &b16) in b.iter().zip(&lora.b) {
                            let exact = f64::from(a) * f64::from(b) * s;
                            let found = a16.to_f64() * b16.to_f64() * f64::from(lora.scale);
                            prop_assert!(a16.is_finite() && b16.is_finite());
                            if a16.is_normal() && b16.is_normal() {
                                let bound = exact.abs() * 2f64.powi(-10);
                                prop_assert!((found - exact).abs() <= bound, "{found} {exact}");
                            }
                        }
                    }
                }
            }
        }
    }
}

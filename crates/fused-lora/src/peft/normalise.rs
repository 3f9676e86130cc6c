//! Adapters of f32 or bf16 to f16: A and B are multiplied by powers of two, s is divided by them.
//!
//! With `A' = 2^i A`, `B' = 2^j B` and `s' = 2^-(i+j) s` the layer computes
//!
//! ```text
//! h' = f16( s' · x A'ᵀ ) = f16( 2^-j · s · x Aᵀ )        y = f16( x Wᵀ + h' B'ᵀ )
//! ```
//!
//! i cancels out before anything is rounded, so it is free: max|A'| goes to the top of f16, where the most
//! small values survive. j moves h against B. What f16 flushes below its smallest normal number costs y
//! about `2⁻²⁵·|B'|` for each h' and `2⁻²⁵·|h'|` for each B', and the product `|h'|·|B'|` does not depend
//! on j: neither factor should be far from the other, and h' needs room above for outliers in x. Adapters
//! come out of training that way (h about 1, B about 2⁻⁵), so j is 0, and h what PEFT's own h is, unless
//!
//! 1. max|B| is outside of `[2⁻⁸, 2⁴)`: j moves it to the nearer edge;
//! 2. the h' of an x of unit variance, `s 2^-j ‖A_row‖₂`, is above 2⁸: j raises B as far as f16 goes.
//!
//! So the result does not depend on how training split the magnitude between A, B and alpha.
//!
//! f16 tensors are not touched. Nothing is done about a tensor in which large and tiny values stand side by
//! side: beside the large ones the tiny ones do not count.

use half::f16;
use ndarray::{Array2, Axis};

use super::tensors::Matrix;

/// Exponent to which max|A'| is brought: `[2¹⁴, 2¹⁵)`, one binade short of where rounding can reach infinity.
const A_TOP: i32 = 14;
/// Exponents that max|B| may have without being moved.
const B_LOWEST: i32 = -8;
const B_HIGHEST: i32 = 3;
/// Exponent that max|B'| may be raised to for the sake of h.
const B_TOP: i32 = 14;
/// Exponent of h', for x of unit variance, above which B is raised: 2⁸ of headroom remain.
const H_HIGHEST: i32 = 8;
/// Exponent of the smallest normal f32.
const F32_LOWEST: i32 = -126;
/// The largest finite f16.
const F16_MAX: f64 = 65504.0;

/// The adapter of one module, ready for [`cpu::Adapter::new`](crate::cpu::Adapter::new).
///
/// `scale · B A` is the adapter's contribution. In f32 ([`LoraFile::load_f32`](super::LoraFile::load_f32))
/// all of it is as in the file. In f16, if the file holds f16, `a` and `b` are bit-identical to its tensors
/// and `scale` is PEFT's `alpha / r` (or `alpha / sqrt(r)`). If it holds f32 or bf16, `a` and `b` may be
/// multiplied by powers of two, so that small values survive in f16; `scale` is divided by them.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraWeights<T = f16> {
    /// `[r, K]`
    pub a: Array2<T>,
    /// `[N, r]`
    pub b: Array2<T>,
    /// s, applied to `x Aᵀ` before that is rounded.
    pub scale: f32,
}

/// No power of two helps: an x of 1 makes more than f16 can hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overflow {
    /// Whether the value is in A (else in B).
    pub(super) of_a: bool,
    /// The value to blame.
    pub(super) value: f32,
    /// What the x of 1 becomes, in h or in y.
    pub(super) magnitude: f64,
}

/// Converts `a` [r, K] and `b` [N, r], all finite, with `scale` finite as an f32.
pub(super) fn to_f16(a: Matrix, b: Matrix, scale: f64) -> Result<LoraWeights, Overflow> {
    let (a, b) = match (a, b) {
        (Matrix::F16(a), Matrix::F16(b)) => return Ok(LoraWeights { a, b, scale: scale as f32 }),
        converted => converted,
    };
    let sizes = Sizes::of(&a, &b, scale);
    let j = if matches!(b, Matrix::F16(_)) { 0 } else { sizes.b_shift() };
    sizes.check(j)?;
    let i = if matches!(a, Matrix::F16(_)) { 0 } else { sizes.a_shift(j) };
    // Nothing to fold where the product is zero, and where A is, `check` did not bound what there would be.
    let folded = if sizes.is_zero() { scale } else { times_power(scale, -(i + j)) };
    Ok(LoraWeights { a: shifted(a, i), b: shifted(b, j), scale: folded as f32 })
}

/// Magnitudes that decide the shifts.
struct Sizes {
    scale: f64,
    /// For each rank column: max|A_row|, max|B_column|.
    pairs: Vec<(f64, f64)>,
    /// The largest ‖A_row‖₂.
    a_norm: f64,
}

impl Sizes {
    fn of(a: &Matrix, b: &Matrix, scale: f64) -> Sizes {
        let (a_max, a_norm) = lanes(a, Axis(0));
        let (b_max, _) = lanes(b, Axis(1));
        let a_norm = a_norm.into_iter().fold(0.0, f64::max);
        Sizes { scale: scale.abs(), pairs: a_max.into_iter().zip(b_max).collect(), a_norm }
    }

    fn a_max(&self) -> f64 {
        self.pairs.iter().fold(0.0, |max, pair| max.max(pair.0))
    }

    fn b_max(&self) -> f64 {
        self.pairs.iter().fold(0.0, |max, pair| max.max(pair.1))
    }

    fn is_zero(&self) -> bool {
        self.scale == 0.0 || self.a_max() == 0.0 || self.b_max() == 0.0
    }

    /// j of the two rules above.
    fn b_shift(&self) -> i32 {
        // A zero matrix can be put anywhere: count it as one that is not moved.
        let b = exponent(self.b_max()).unwrap_or(B_LOWEST);
        let for_h = exponent(self.scale * self.a_norm).map_or(i32::MIN, |h| h - H_HIGHEST);
        let lowest = (B_LOWEST - b).max(for_h.min(B_TOP - b));
        let highest = (B_HIGHEST - b).max(lowest);
        0.clamp(lowest, highest)
    }

    /// i: max|A'| to the top, unless s' would leave the normal f32 numbers; its contribution is then far
    /// below what h can hold, wherever A' is.
    fn a_shift(&self, j: i32) -> i32 {
        let Some(a) = exponent(self.a_max()) else { return 0 };
        let i = A_TOP - a;
        match exponent(times_power(self.scale, -(i + j))) {
            Some(s) if s < F32_LOWEST => i - (F32_LOWEST - s),
            _ => i,
        }
    }

    /// An x of 1 in a single column must not overflow y by itself, nor h'.
    fn check(&self, j: i32) -> Result<(), Overflow> {
        let of = |of_a, value: f64, magnitude| Err(Overflow { of_a, value: value as f32, magnitude });
        for &(a, b) in &self.pairs {
            let y = self.scale * a * b;
            if y > F16_MAX {
                return of(a > b, a.max(b), y);
            }
        }
        for &(a, _) in &self.pairs {
            let h = self.scale * a;
            let raised = times_power(h, -j);
            if h > F16_MAX && raised > F16_MAX {
                return of(true, a, h);
            }
            // Here h fits, but not beside the largest B of another column.
            if raised > F16_MAX {
                return of(false, self.b_max(), raised);
            }
        }
        Ok(())
    }
}

/// Largest magnitude and Euclidean norm of each lane along `axis`.
fn lanes(matrix: &Matrix, axis: Axis) -> (Vec<f64>, Vec<f64>) {
    fn of<T: Copy>(matrix: &Array2<T>, axis: Axis, wide: impl Fn(T) -> f64) -> (Vec<f64>, Vec<f64>) {
        let lane = |lane: ndarray::ArrayView1<'_, T>| {
            let (max, squares) = lane
                .iter()
                .map(|&v| wide(v).abs())
                .fold((0.0, 0.0), |(max, squares), v| (f64::max(max, v), squares + v * v));
            (max, f64::sqrt(squares))
        };
        matrix.axis_iter(axis).map(lane).unzip()
    }
    match matrix {
        Matrix::F16(m) => of(m, axis, |v| v.to_f64()),
        Matrix::F32(m) => of(m, axis, f64::from),
    }
}

/// The matrix times `2^shift`, in f16. An f16 matrix is only ever shifted by 0.
fn shifted(matrix: Matrix, shift: i32) -> Array2<f16> {
    match matrix {
        Matrix::F16(m) => m,
        // The product is exact in f64, and in f32 wherever f16 does not round it to zero: one rounding.
        Matrix::F32(m) => {
            let factor = times_power(1.0, shift);
            m.mapv(|v| f16::from_f32((f64::from(v) * factor) as f32))
        }
    }
}

/// `v · 2^power`. Exact, but where it leaves f64's normal numbers.
fn times_power(v: f64, power: i32) -> f64 {
    v * 2f64.powi(power)
}

/// The e of `2^e ≤ v < 2^(e+1)`, none for zero. f64's subnormal numbers count as the smallest normal one.
fn exponent(v: f64) -> Option<i32> {
    const BIAS: i32 = 1023;
    (v != 0.0).then(|| (((v.to_bits() >> 52) & 0x7ff) as i32 - BIAS).max(1 - BIAS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn exp2(e: i32) -> f32 {
        2f64.powi(e) as f32
    }

    fn f32_matrices(a: &[f32], b: &[f32]) -> (Matrix, Matrix) {
        let matrix = |v: &[f32], shape| Matrix::F32(Array2::from_shape_vec(shape, v.to_vec()).unwrap());
        (matrix(a, (1, a.len())), matrix(b, (b.len(), 1)))
    }

    fn convert(a: &[f32], b: &[f32], scale: f64) -> Result<LoraWeights, Overflow> {
        let (a, b) = f32_matrices(a, b);
        to_f16(a, b, scale)
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

    #[test]
    fn an_ordinary_adapter_keeps_its_b_and_its_h() {
        let lora = convert(&[0.031, -0.02, 1e-7], &[0.01, -0.3], 1.6).unwrap();
        assert_eq!(lora.b, ndarray::arr2(&[[f16::from_f32(0.01)], [f16::from_f32(-0.3)]]));
        // 0.031 is in [2⁻⁶, 2⁻⁵), so A is raised by 2²⁰, and 1e-7 keeps all its bits.
        assert_eq!(lora.scale, (1.6 * 2f64.powi(-20)) as f32);
        assert_eq!(lora.a[[0, 2]], f16::from_f32(1e-7 * exp2(20)));
        assert!(lora.a[[0, 2]].is_normal());
    }

    #[test]
    fn f16_is_used_bit_for_bit_also_beside_f32() {
        let bits = |v: &[u16]| v.iter().map(|&b| f16::from_bits(b)).collect::<Vec<_>>();
        // Subnormals and the largest number: nothing of it would survive being moved.
        let a = Array2::from_shape_vec((1, 3), bits(&[0x0001, 0x7bff, 0x8000])).unwrap();
        let b = Array2::from_shape_vec((2, 1), bits(&[0x03ff, 0x8001])).unwrap();
        let lora = to_f16(Matrix::F16(a.clone()), Matrix::F16(b.clone()), 0.1).unwrap();
        assert_eq!(lora, LoraWeights { a: a.clone(), b: b.clone(), scale: 0.1 });

        let wide = Matrix::F32(ndarray::arr2(&[[1e-6], [2e-6]]));
        let lora = to_f16(Matrix::F16(a.clone()), wide, 0.001).unwrap();
        assert_eq!(lora.a.mapv(f16::to_bits), a.mapv(f16::to_bits));
        let wide = Matrix::F32(ndarray::arr2(&[[1e-6, 2e-6, 0.0]]));
        let lora = to_f16(wide, Matrix::F16(b.clone()), 0.1).unwrap();
        assert_eq!(lora.b.mapv(f16::to_bits), b.mapv(f16::to_bits));
        assert!(lora.a[[0, 0]].is_normal());
    }

    #[test]
    fn zeros_stay_zero_and_the_scale_finite() {
        for (a, b, scale) in [
            (0.0, 0.5, 2.0),
            (0.5, 0.0, 2.0),
            (0.0, 0.0, 2.0),
            (0.5, 0.5, 0.0),
            (0.0, 3e38, 3e38),
            (1.0, 0.0, 1e5),
            (1e-38, 0.0, 1e38),
        ] {
            let lora = convert(&[a], &[b], scale).unwrap_or_else(|e| panic!("{a} {b} {scale}: {e:?}"));
            assert_eq!(lora.a[[0, 0]] == f16::ZERO, a == 0.0, "{a} {b} {scale}");
            assert_eq!(lora.b[[0, 0]] == f16::ZERO, b == 0.0, "{a} {b} {scale}");
            assert!(lora.scale.is_finite() && lora.a[[0, 0]].is_finite() && lora.b[[0, 0]].is_finite());
        }
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

    #[test]
    fn what_still_overflows_is_an_error() {
        // h: where B is zero there is nothing to move its magnitude to.
        let error = convert(&[1e38], &[0.0], 1.0).unwrap_err();
        assert_eq!(error, Overflow { of_a: true, value: 1e38, magnitude: f64::from(1e38f32) });
        // h of a column whose B is tiny, beside one whose B is large.
        let a = Matrix::F32(ndarray::arr2(&[[1e6], [1e-3]]));
        let b = Matrix::F32(ndarray::arr2(&[[1e-6, 1e4]]));
        let error = to_f16(a, b, 1.0).unwrap_err();
        assert_eq!(error, Overflow { of_a: true, value: 1e6, magnitude: 1e6 });
        // h would have to be raised that far for a B of another column to fit.
        let a = Matrix::F32(ndarray::arr2(&[[0.5], [1e-20]]));
        let b = Matrix::F32(ndarray::arr2(&[[0.5, exp2(60)]]));
        let error = to_f16(a, b, 1.0).unwrap_err();
        assert_eq!(error, Overflow { of_a: false, value: exp2(60), magnitude: 2f64.powi(45) });
        // y: the blame goes to the larger factor.
        assert!(!convert(&[0.3], &[1e6], 1.6).unwrap_err().of_a);
        assert!(convert(&[1e6], &[0.3], 1.6).unwrap_err().of_a);
        // The same values at a scale that takes them.
        convert(&[0.3], &[1e6], 0.01).unwrap();
        convert(&[1e6], &[0.3], 0.01).unwrap();
        // f16 alone is what the file says, at any scale.
        let f16s = |v: f32| Matrix::F16(ndarray::arr2(&[[f16::from_f32(v)]]));
        assert_eq!(to_f16(f16s(60000.0), f16s(60000.0), 100.0).unwrap().scale, 100.0);
    }

    #[test]
    fn a_large_h_is_lowered_at_the_expense_of_b() {
        let lora = convert(&[exp2(-5)], &[exp2(-7)], 2f64.powi(20)).unwrap();
        let h = f64::from(lora.scale) * lora.a[[0, 0]].to_f64();
        assert_eq!(h, 256.0);
        assert_eq!(lora.b[[0, 0]].to_f64(), 1.0);
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
                Err(_) => prop_assert!(unit > F16_MAX || s * largest(&a) > F16_MAX, "{unit}"),
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

        /// Where the product is of a useful size, so are h' and B', however it was split.
        #[test]
        fn the_split_does_not_matter(i in -60..60i32, j in -60..60i32) {
            let (a, b) = (exp2(-5 + i), exp2(-6 + j));
            let lora = convert(&[a], &[b], 2f64.powi(1 - i - j)).unwrap();
            let h = f64::from(lora.scale) * lora.a[[0, 0]].to_f64();
            prop_assert!((2f64.powi(-14)..=2f64.powi(9)).contains(&h), "{}", h);
            prop_assert_eq!(h * lora.b[[0, 0]].to_f64(), 2f64.powi(-10));
        }
    }
}

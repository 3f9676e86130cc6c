//! The reference result in f64, by ndarray's products, and the error bound that every kernel must meet.
//!
//! With u, half a unit in the last place of x, W and y, relative (2⁻¹¹ for f16, 2⁻⁸ for bf16, 2⁻²⁴ for f32),
//! u′ that of h (0 where it stays f32: beside A and B of f32, and beside f16 on a CPU), and t the smallest
//! normal number of bf16 and f32, 2⁻¹²⁶, the smallest number at all of f16, 2⁻²⁴, every element must satisfy
//!
//! ```text
//! |y − ref| ≤ 2u·|ref| + t + Σ|B|·(2u′|h| + t′ + δ(s·|x||A|)) + δ(Σ|x||W| + Σ|h||B|)
//! ```
//!
//! - `2u·|ref|`: y is rounded once (u), and a sum that ends on the other side of a tie needs as much again;
//! - `2u′|h|`: h is rounded once, and its f32 sum may round it to the neighbouring value;
//! - `t`, `t′`: what y, or an h, may lose where it underflows;
//! - `δ`: the f32 sums, as [`Sums`] says.
//!
//! [`Strategy::Unfused`] rounds `x Wᵀ + bias` when it stores it; this is part of the definition, so its bound
//! has the additional term `u·|x Wᵀ + bias|`.
//!
//! With an activation g the bound δ of the sums t, all of the above but `2u·|ref| + t`, is carried through
//! g: it becomes the larger of |g(t ± δ) − g(t)|. (GELU falls and then rises, once, so no point between
//! deviates more.) An activation or a residual add `2⁻²⁰·(|g(t)| + Σ|residual|)` for the evaluation of g and
//! the sum, both in f32.

use half::f16;
use ndarray::{Array2, ArrayView2};

use crate::{
    element::{AdapterElement, Element},
    epilogue::{Activation, Epilogue},
    error::{Error, Operand},
    problem::{DType, Strategy},
    shape::{check_fit, require},
};

/// The Frobenius rule speaks of outputs that have enough elements to be a sample.
const FROBENIUS_MIN_ELEMENTS: usize = 256;

/// How f32 sums are made, which decides what they may be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// Products of 16 elements are added at once, and truncated: `(K/16 + 32)·2⁻²³·Σ|x||W|`, and no more for
    /// h, whose sum is as long. (Random data on a CPU is within it as well.)
    TensorCores,
    /// One product is added after another, each sum rounded to nearest: `(K + r + 32)·2⁻²⁴` of all magnitudes
    /// in y's sum, `(K + 32)·2⁻²⁴` of those in h's. h of an f16 adapter stays f32. An f32 sum restarts every 64
    /// products, so that `64 + (K + r)/64` stands in the place of K + r. For bf16, whose instructions take
    /// subnormal numbers for zero, `(K + r + 2)·2⁻¹²⁶·(1 + max|x| + max|W|)` is added; for an f32 adapter of a
    /// bf16 layer, which may be computed in two parts of bf16, `2⁻¹⁶·Σ|h||B| + Σ|B|·2⁻¹⁷·s·Σ|x||A|`.
    OneByOne,
}

/// The operands of one product: x, W and y of type `T`, A and B of type `H`.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: 'static = f16, H = T> {
    /// `[M, K]`
    pub x: ArrayView2<'a, T>,
    /// `[N, K]`
    pub w: ArrayView2<'a, T>,
    /// The adapter; None for the base product.
    pub adapter: Option<LoraView<'a, H>>,
    /// What is applied to the sums before they are rounded; [`Epilogue::NONE`] for nothing.
    pub epilogue: &'a Epilogue<T>,
}

/// The matrices and the scale of an adapter.
#[derive(Clone, Copy, Debug)]
pub struct LoraView<'a, H = f16> {
    /// `[r, K]`
    pub a: ArrayView2<'a, H>,
    /// `[N, r]`
    pub b: ArrayView2<'a, H>,
    /// s: `alpha / r`, or `alpha / sqrt(r)` for rsLoRA.
    pub scale: f32,
}

/// The result of [`forward`].
#[derive(Clone, Debug)]
pub struct Expected {
    /// `[M, N]`, not rounded; only h has been rounded, unless it stays f32.
    pub y: Array2<f64>,
    /// The largest |y − ref| allowed, element by element: `[M, N]`.
    pub tolerance: Array2<f64>,
}

/// The first element that exceeds its bound, or the norm of the whole output's error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// The output has another shape than the reference.
    #[error("y has shape {found:?}, the reference {expected:?}")]
    Shape {
        /// The reference's shape.
        expected: (usize, usize),
        /// The output's shape.
        found: (usize, usize),
    },
    /// An element is off by more than its bound.
    #[error(
        "y[{row}, {column}] = {found}, expected {expected} ± {tolerance:e}; {bad} of {total} elements are off"
    )]
    Element {
        /// Row of the first such element.
        row: usize,
        /// Column of the first such element.
        column: usize,
        /// The output's value.
        found: f64,
        /// The reference's value.
        expected: f64,
        /// The bound.
        tolerance: f64,
        /// How many elements are off.
        bad: usize,
        /// The number of elements.
        total: usize,
    },
    /// Every element is within its bound, but the norm of all errors is not: the errors are systematic.
    #[error("‖y − ref‖ = {error:e} is over 2u·‖ref‖ = {limit:e}")]
    Norm {
        /// ‖y − ref‖_F
        error: f64,
        /// 2u·‖ref‖_F
        limit: f64,
    },
}

/// Computes the product in f64 from the inputs as they are, with h rounded once, and the bound of
/// [`Sums::TensorCores`].
///
/// # Errors
///
/// [`Error::Shape`] if shapes do not fit.
pub fn forward<T: Element, H: AdapterElement<T>>(
    inputs: &Inputs<'_, T, H>,
    strategy: Strategy,
) -> Result<Expected, Error> {
    forward_residual(inputs, &[], strategy)
}

/// As [`forward`], with residuals, `[M, N]` each, added after the activation.
///
/// # Errors
///
/// As [`forward`].
pub fn forward_residual<T: Element, H: AdapterElement<T>>(
    inputs: &Inputs<'_, T, H>,
    residuals: &[ArrayView2<'_, T>],
    strategy: Strategy,
) -> Result<Expected, Error> {
    forward_summed(inputs, residuals, strategy, Sums::TensorCores)
}

/// As [`forward_residual`], with the bound for sums that are made in this way.
///
/// # Errors
///
/// As [`forward`].
pub fn forward_summed<T: Element, H: AdapterElement<T>>(
    inputs: &Inputs<'_, T, H>,
    residuals: &[ArrayView2<'_, T>],
    strategy: Strategy,
    sums: Sums,
) -> Result<Expected, Error> {
    let Inputs { x, w, adapter, epilogue: Epilogue { bias, activation } } = *inputs;
    let ((m, k), n) = (x.dim(), w.nrows());
    require(Operand::X, "columns", w.ncols(), k)?;
    if let Some(bias) = bias {
        require(Operand::Bias, "elements", n, bias.len())?;
    }
    let adapter = adapter.filter(|_| strategy != Strategy::Base);
    if let Some(LoraView { a, b, .. }) = adapter {
        check_fit([n, k], [b.nrows(), a.ncols()])?;
        require(Operand::B, "columns", a.nrows(), b.ncols())?;
    }
    for residual in residuals {
        require(Operand::Residual, "rows", m, residual.nrows())?;
        require(Operand::Residual, "columns", n, residual.ncols())?;
    }

    let (format, of_h) = (Format::of(T::DTYPE), Format::of(H::DTYPE));
    let rule = Rule::new(sums, T::DTYPE, H::DTYPE, k, adapter.map_or(0, |adapter| adapter.a.nrows()));
    let [x, w] = [x, w].map(|view| view.mapv(T::to_f64));
    let flushed = rule.flushed * (1.0 + largest(&x) + largest(&w));
    let base = Sum::of(&x, &w);
    let expand = adapter.map(|LoraView { a, b, scale }| {
        let [a, b] = [a, b].map(|view| view.mapv(H::to_f64));
        let scale = f64::from(scale);
        let shrink = Sum::of(&x, &a);
        // h, and what each may be off.
        let mut off = match rule.of_h {
            // Not 0 times an infinite magnitude.
            0.0 => Array2::zeros(shrink.magnitude.dim()),
            of_h => shrink.magnitude * (scale.abs() * of_h),
        };
        let mut h = shrink.value * scale;
        let stays_f32 = match sums {
            Sums::TensorCores => H::DTYPE == DType::F32,
            // A CPU's kernels leave f16's h in f32, too.
            Sums::OneByOne => H::DTYPE != DType::Bf16,
        };
        if !stays_f32 {
            h.mapv_inplace(|exact| of_h.round(exact));
            off.zip_mut_with(&h, |off, h| *off += 2.0 * of_h.unit * h.abs() + of_h.smallest);
        }
        (Sum::of(&h, &b), off.dot(&b.mapv(f64::abs).t()))
    });

    let mut y = Array2::zeros((m, n));
    let mut tolerance = Array2::zeros((m, n));
    for i in 0..m {
        for j in 0..n {
            let magnitude = base.magnitude[[i, j]];
            let base = base.value[[i, j]] + bias.as_ref().map_or(0.0, |bias| bias[j].to_f64());
            let (expand, expand_magnitude, of_h) = expand.as_ref().map_or((0.0, 0.0, 0.0), |(sum, off)| {
                (sum.value[[i, j]], sum.magnitude[[i, j]], off[[i, j]])
            });
            let sum = base + expand;
            let of_sum = of_h
                + rule.of_expand * expand_magnitude
                + rule.of_base * magnitude
                + flushed
                + if strategy == Strategy::Unfused { format.unit * base.abs() } else { 0.0 };
            let (activated, of_activated) = match activation {
                None => (sum, of_sum),
                Some(Activation::GeluTanh) => carried(gelu_tanh, sum, of_sum),
            };
            let residual = residuals.iter().map(|residual| residual[[i, j]].to_f64());
            let in_f32 = if activation.is_some() || !residuals.is_empty() {
                2f64.powi(-20) * (activated.abs() + residual.clone().map(f64::abs).sum::<f64>())
            } else {
                0.0
            };
            let reference = activated + residual.sum::<f64>();
            y[[i, j]] = reference;
            tolerance[[i, j]] = 2.0 * format.unit * reference.abs() + format.smallest + of_activated + in_f32;
        }
    }
    Ok(Expected { y, tolerance })
}

/// A product, and the same of all magnitudes.
struct Sum {
    value: Array2<f64>,
    magnitude: Array2<f64>,
}

impl Sum {
    /// x Wᵀ
    fn of(x: &Array2<f64>, w: &Array2<f64>) -> Self {
        Self { value: x.dot(&w.t()), magnitude: x.mapv(f64::abs).dot(&w.mapv(f64::abs).t()) }
    }
}

fn largest(values: &Array2<f64>) -> f64 {
    values.iter().filter(|value| value.is_finite()).fold(0.0, |largest, value| largest.max(value.abs()))
}

/// What f32 sums may be off, relative to the magnitudes of their terms.
struct Rule {
    of_base: f64,
    of_expand: f64,
    of_h: f64,
    /// Times the magnitudes of x and W.
    flushed: f64,
}

impl Rule {
    fn new(sums: Sums, of: DType, of_h: DType, k: usize, rank: usize) -> Self {
        let [k, rank] = [k as f64, rank as f64];
        match sums {
            Sums::TensorCores => {
                Self { of_base: (k / 16.0 + 32.0) * 2f64.powi(-23), of_expand: 0.0, of_h: 0.0, flushed: 0.0 }
            }
            Sums::OneByOne => {
                // Those of a chunk, and the chunks.
                let terms = |terms: f64| if of == DType::F32 { 64.0 + terms / 64.0 } else { terms };
                let [all, shrink] = [k + rank, k].map(|sum| (terms(sum) + 32.0) * 2f64.powi(-24));
                let in_parts = f64::from(u8::from(of == DType::Bf16 && of_h == DType::F32));
                let flushed = f64::from(u8::from(of == DType::Bf16)) * (k + rank + 2.0) * 2f64.powi(-126);
                Self {
                    of_base: all,
                    of_expand: all + in_parts * 2f64.powi(-16),
                    of_h: shrink + in_parts * 2f64.powi(-17),
                    flushed,
                }
            }
        }
    }
}

/// An element type, as far as rounding goes.
struct Format {
    /// Half a unit in the last place, relative to the value.
    unit: f64,
    /// What an underflow may cost: the smallest number of f16, the smallest normal one of the others.
    smallest: f64,
    /// From here on it rounds to infinity: the midpoint between the largest number and the next power of two.
    overflow: f64,
    /// Bits of the fraction, and the exponent of the smallest normal number.
    fraction: i32,
    min_exponent: i32,
}

impl Format {
    fn of(dtype: DType) -> Self {
        let (fraction, min_exponent, max_exponent) = match dtype {
            DType::F16 => (10, -14, 15),
            DType::Bf16 => (7, -126, 127),
            DType::F32 => (23, -126, 127),
        };
        let unit = 2f64.powi(-fraction - 1);
        Self {
            unit,
            smallest: if dtype == DType::F16 {
                2f64.powi(min_exponent - fraction)
            } else {
                2f64.powi(min_exponent)
            },
            overflow: (2.0 - unit) * 2f64.powi(max_exponent),
            fraction,
            min_exponent,
        }
    }

    /// Rounds to the nearest value of the type, ties to even, directly from f64. (`f16::from_f64` may go
    /// through f32 and round twice.)
    fn round(&self, value: f64) -> f64 {
        if value.abs() >= self.overflow {
            return f64::INFINITY.copysign(value);
        }
        if value == 0.0 || value.is_nan() {
            return value;
        }
        let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
        let quantum = 2f64.powi(exponent.max(self.min_exponent) - self.fraction);
        (value / quantum).round_ties_even() * quantum
    }
}

/// g(t), and how far an error of δ in t carries.
fn carried(g: impl Fn(f64) -> f64, t: f64, delta: f64) -> (f64, f64) {
    let value = g(t);
    (value, [t - delta, t + delta].map(|end| (g(end) - value).abs()).into_iter().fold(0.0, f64::max))
}

/// [`Activation::GeluTanh`], with its limit at −∞.
fn gelu_tanh(t: f64) -> f64 {
    if t == f64::NEG_INFINITY {
        return 0.0;
    }
    t / (1.0 + (-(8.0 / std::f64::consts::PI).sqrt() * (t + 0.044715 * t.powi(3))).exp())
}

/// Checks an output against the reference, element by element and, from 256 elements on, by
/// `‖y − ref‖_F ≤ 2u·‖ref‖_F`; in f32 that would say less than the elements' bounds, so there it is left out.
///
/// NaN is equal to NaN; a value that the type rounds to infinity must be that infinity.
///
/// # Errors
///
/// The first [`Mismatch`].
pub fn check<T: Element>(expected: &Expected, y: ArrayView2<'_, T>) -> Result<(), Mismatch> {
    check_elements(expected, y)?;
    let format = Format::of(T::DTYPE);
    let finite = || {
        let pairs = expected.y.iter().zip(y.iter().map(|y| y.to_f64()));
        pairs.filter(|(r, y)| r.abs() < format.overflow && y.is_finite())
    };
    if T::DTYPE != DType::F32 && finite().count() >= FROBENIUS_MIN_ELEMENTS {
        let error = finite().map(|(r, y)| (y - r).powi(2)).sum::<f64>().sqrt();
        let limit = 2.0 * format.unit * finite().map(|(r, _)| r * r).sum::<f64>().sqrt();
        if error > limit {
            return Err(Mismatch::Norm { error, limit });
        }
    }
    Ok(())
}

/// [`check`] without the norm, for data that is not normally distributed, for which the bound of the norm
/// need not hold.
///
/// # Errors
///
/// The first [`Mismatch`].
pub fn check_elements<T: Element>(expected: &Expected, y: ArrayView2<'_, T>) -> Result<(), Mismatch> {
    if y.dim() != expected.y.dim() {
        return Err(Mismatch::Shape { expected: expected.y.dim(), found: y.dim() });
    }
    let format = Format::of(T::DTYPE);
    let off = |(at, found): &((usize, usize), &T)| {
        !agrees(found.to_f64(), expected.y[*at], expected.tolerance[*at], format.overflow)
    };
    let Some(((row, column), found)) = y.indexed_iter().find(off) else {
        return Ok(());
    };
    Err(Mismatch::Element {
        row,
        column,
        found: found.to_f64(),
        expected: expected.y[[row, column]],
        tolerance: expected.tolerance[[row, column]],
        bad: y.indexed_iter().filter(off).count(),
        total: y.len(),
    })
}

fn agrees(found: f64, expected: f64, tolerance: f64, overflow: f64) -> bool {
    if expected.is_nan() || found.is_nan() {
        return expected.is_nan() && found.is_nan();
    }
    if found.is_infinite() {
        // The sum's error may carry it over the edge.
        return found.signum() == expected.signum()
            && (expected.is_infinite() || expected.abs() + tolerance >= overflow);
    }
    // Finite: an infinite reference or tolerance must not pass as `inf <= inf`.
    expected.is_finite() && (found - expected).abs() <= tolerance
}

#[cfg(test)]
mod tests {
    use ndarray::{arr2, array};

    use super::*;

    const U: f64 = 1.0 / 2048.0;

    fn round_to_f16(value: f64) -> f64 {
        Format::of(DType::F16).round(value)
    }

    fn f(values: Array2<f32>) -> Array2<f16> {
        values.mapv(f16::from_f32)
    }

    #[test]
    fn a_product_done_by_hand() {
        let (x, w) = (f(arr2(&[[1., 2.], [3., -1.]])), f(arr2(&[[1., 1.], [2., 0.], [-1., 4.]])));
        let (a, b) = (f(arr2(&[[1., -1.]])), f(arr2(&[[2.], [0.], [-1.]])));
        let epilogue = Epilogue::bias(array![f16::ONE, f16::ZERO, f16::from_f32(-2.0)]);
        let adapter = LoraView { a: a.view(), b: b.view(), scale: 0.5 };
        let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(adapter), epilogue: &epilogue };
        // h = 0.5 · [-1, 4] = [-0.5, 2]
        let expected = forward(&inputs, Strategy::Fused).unwrap();
        assert_eq!(expected.y, arr2(&[[3. - 1. + 1., 2., 7. + 0.5 - 2.], [2. + 4. + 1., 6., -7. - 2. - 2.]]));
        let base = forward(&inputs, Strategy::Base).unwrap();
        assert_eq!(base.y, arr2(&[[4., 2., 5.], [3., 6., -9.]]));
        // 2u(|3| + |-0.5·2|) + 2⁻²⁴(1 + 2) + (2/16 + 32) 2⁻²³ · 3
        let bound = 2. * U * (3. + 1.) + 2f64.powi(-24) * 3. + 32.125 * 2f64.powi(-23) * 3.;
        let close = |found: f64, expected: f64| (found - expected).abs() < 1e-12 * expected;
        assert!(close(expected.tolerance[[0, 0]], bound));
        let unfused = forward(&inputs, Strategy::Unfused).unwrap().tolerance[[0, 0]];
        assert!(close(unfused, bound + U * 4.));

        // 3 goes through GELU, whose slope there is 1.0116, and meets residuals of 0.5 and -3.
        let epilogue = epilogue.clone().with_activation(Activation::GeluTanh);
        let [one, other] = [0.5, -3.0].map(|value| f(Array2::from_elem((2, 3), value)));
        let inputs = Inputs { epilogue: &epilogue, ..inputs };
        let gelu = forward_residual(&inputs, &[one.view(), other.view()], Strategy::Fused).unwrap();
        let y = gelu.y[[0, 0]];
        assert!((y - (2.996_363 - 2.5)).abs() < 1e-6, "{y}");
        // All of the bound but what is said of y itself, through the slope.
        let of_sum = bound - 2. * U * 3. - 2f64.powi(-24);
        let bound = 2. * U * y + 2f64.powi(-24) + 1.0116 * of_sum + 2f64.powi(-20) * (2.996_363 + 3.5);
        assert!((gelu.tolerance[[0, 0]] / bound - 1.0).abs() < 1e-4, "{} {bound}", gelu.tolerance[[0, 0]]);
        // -11 is so far down that nothing is left but the residuals, and no error of the sum either.
        assert_eq!(gelu.y[[1, 2]], -2.5);
    }

    /// GELU of PyTorch 2.15, `torch.nn.functional.gelu(t, approximate="tanh")` in f64.
    #[test]
    fn gelu_is_that_of_pytorch() {
        for (t, expected) in [
            (-60000.0, -0.0),
            (-5.0, -2.2917961972623857e-07),
            (-0.75, -0.17003944483437966),
            (-0.001, -0.000499601057786418),
            (0.0, 0.0),
            (0.5, 0.34571400982514394),
            (1.0, 0.8411919906082768),
            (3.0, 2.996362607918227),
            (20.0, 20.0),
        ] {
            assert!(
                (gelu_tanh(t) - expected).abs() <= 1e-15 * t.abs().max(1.0),
                "{t}: {} {expected}",
                gelu_tanh(t)
            );
        }
        assert_eq!((gelu_tanh(f64::NEG_INFINITY), gelu_tanh(f64::INFINITY)), (0.0, f64::INFINITY));
        assert!(gelu_tanh(f64::NAN).is_nan());
    }

    #[test]
    fn h_is_rounded_once() {
        // x·a = 1 + 2⁻¹¹ is a tie: to even, 1. With s = 3 in it first: 3 + 3·2⁻¹¹ rounds up to 3 + 2⁻⁹.
        let x = f(arr2(&[[1., 1.]]));
        let a = f(arr2(&[[1., 2f32.powi(-11)]]));
        let b = f(arr2(&[[1.]]));
        let w = f(arr2(&[[0., 0.]]));
        let y = |scale| {
            let adapter = Some(LoraView { a: a.view(), b: b.view(), scale });
            let inputs = Inputs { x: x.view(), w: w.view(), adapter, epilogue: Epilogue::NONE };
            forward(&inputs, Strategy::Fused).unwrap().y[[0, 0]]
        };
        assert_eq!(y(1.0), 1.0);
        assert_eq!(y(3.0), 3.0 + 2f64.powi(-9));
    }

    #[test]
    fn rounding_is_that_of_f16() {
        for bits in 0..=u16::MAX {
            let value = f16::from_bits(bits);
            if value.is_finite() {
                assert_eq!(round_to_f16(value.to_f64()), value.to_f64());
            }
        }
        assert_eq!(round_to_f16(65519.9), 65504.0);
        assert_eq!(round_to_f16(-65520.0), f64::NEG_INFINITY);
        assert_eq!(round_to_f16(2f64.powi(-25)), 0.0);
        assert_eq!(round_to_f16(2f64.powi(-25) * 1.0001), 2f64.powi(-24));
        // Through f32 this would be a tie and go to even, 1.
        assert_eq!(round_to_f16(1.0 + 2f64.powi(-11) + 2f64.powi(-40)), 1.0 + 2f64.powi(-10));
        assert!(round_to_f16(f64::NAN).is_nan());
    }

    #[test]
    fn the_checker_checks() {
        let expected =
            Expected { y: arr2(&[[1.0, 70000.0, f64::NAN]]), tolerance: arr2(&[[1e-3, 10.0, f64::NAN]]) };
        let y = |v: [f32; 3]| f(arr2(&[v]));
        let good = y([1.0, f32::INFINITY, f32::NAN]);
        assert_eq!(check(&expected, good.view()), Ok(()));
        for bad in [
            [1.01, f32::INFINITY, f32::NAN],
            [1.0, 65504.0, f32::NAN],
            [1.0, f32::NEG_INFINITY, f32::NAN],
            [1.0, f32::INFINITY, 0.0],
            [f32::NAN, f32::INFINITY, f32::NAN],
            [f32::INFINITY, f32::INFINITY, f32::NAN],
        ] {
            assert!(
                matches!(check(&expected, y(bad).view()), Err(Mismatch::Element { bad: 1, .. })),
                "{bad:?}"
            );
        }
        let other = f(Array2::zeros((3, 1)));
        assert!(matches!(check(&expected, other.view()), Err(Mismatch::Shape { .. })));
    }

    #[test]
    fn an_error_with_a_direction_fails_the_norm() {
        let expected = Expected { y: Array2::ones((16, 16)), tolerance: Array2::from_elem((16, 16), 0.01) };
        let y = Array2::from_elem((16, 16), f16::from_f32(1.002));
        assert_eq!(check_elements(&expected, y.view()), Ok(()));
        assert!(matches!(check(&expected, y.view()), Err(Mismatch::Norm { .. })));
    }
}

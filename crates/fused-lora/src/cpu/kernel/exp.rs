//! eᵗ, and what is made of it, lane by lane.

use super::Vector;

/// 1.5 · 2²³: `t + ROUND` has n, t rounded to an integer, in its lowest bits, and `(t + ROUND) − ROUND` is n.
pub(crate) const ROUND: f32 = 12_582_912.0;
/// Below it eᵗ is no normal f32 any more.
const MIN: f32 = -87.3;
/// e^f − 1 − f, divided by f², for |f| ≤ ln 2 / 2, from f⁵ down: the polynomial of Cephes' `expf`.
const POLYNOMIAL: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// ln 2 in two parts, so that `n · LN2[0]` is exact.
const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// eᵗ for t ≤ 88, to a relative error of 2⁻²²; below −87.3 it is that of −87.3, some 10⁻³⁸. NaN stays NaN.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
pub(crate) unsafe fn exp<X: Vector>(t: X) -> X {
    // SAFETY: the caller's contract.
    unsafe {
        // In this order NaN comes through.
        let t = X::splat(MIN).max(t);
        let rounded = t.mul_add(X::splat(std::f32::consts::LOG2_E), X::splat(ROUND));
        let n = rounded.sub(X::splat(ROUND));
        let f = n.mul_add(X::splat(-LN2[1]), n.mul_add(X::splat(-LN2[0]), t));
        let mut p = X::splat(POLYNOMIAL[0]);
        for coefficient in &POLYNOMIAL[1..] {
            p = p.mul_add(f, X::splat(*coefficient));
        }
        p.mul_add(f.mul(f), f.add(X::splat(1.0))).mul(rounded.exp2_of_rounded())
    }
}

/// √(2/π) and 0.044715 times that: `gelu(t) = t · σ(2 (GELU[0] t + GELU[1] t³))`.
const GELU: [f32; 2] = [0.797_884_6, 0.035_677_407];
/// Below it GELU is no normal f32 any more.
const GELU_MIN: f32 = -12.0;

/// [`Activation::GeluTanh`](crate::Activation::GeluTanh). NaN stays NaN; the limits at ±∞ are ∞ and −0.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
pub(crate) unsafe fn gelu_tanh<X: Vector>(t: X) -> X {
    // SAFETY: the caller's contract.
    unsafe {
        let t = X::splat(GELU_MIN).max(t);
        let minus_slope = t.mul(t).mul_add(X::splat(-GELU[1]), X::splat(-GELU[0]));
        // t / (1 + root²), both sides over 16: so the divisor becomes infinite only where GELU is subnormal.
        let root = exp(minus_slope.mul(t)).mul(X::splat(0.25));
        t.mul(X::splat(0.0625)).div(root.mul_add(root, X::splat(0.0625)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        Simd,
        kernel::{Job, MicroKernel, levels::Level},
        simd::dispatch,
    };

    /// One of the functions on one number, in every lane.
    struct Evaluate {
        gelu: bool,
        t: f32,
    }

    impl<X: Vector> Job<X> for Evaluate {
        type Output = f32;

        #[inline(always)]
        unsafe fn run(self) -> f32 {
            let mut lanes = [f32::NAN; 16];
            // SAFETY: there is room for every lane of any level.
            unsafe {
                let t = X::splat(self.t);
                let value = if self.gelu { gelu_tanh(t) } else { exp(t) };
                value.store(lanes.as_mut_ptr());
            }
            assert!(lanes[..X::LANES].iter().all(|lane| lane.to_bits() == lanes[0].to_bits()));
            lanes[0]
        }
    }

    fn evaluate(simd: Simd, gelu: bool, t: f32) -> f64 {
        f64::from(dispatch!(simd, f32, f32 => evaluate_with(gelu, t)))
    }

    fn evaluate_with<L: Level>(gelu: bool, t: f32) -> f32 {
        // SAFETY: the level is available.
        unsafe { L::Main::vectorize(Evaluate { gelu, t }) }
    }

    #[test]
    fn exp_is_accurate_and_keeps_nan() {
        for simd in Simd::available() {
            for i in -87_300..=88_000 {
                let t = i as f32 / 1000.0;
                let (found, expected) = (evaluate(simd, false, t), f64::from(t).exp());
                assert!(
                    (found - expected).abs() <= expected * 2f64.powi(-22),
                    "{simd} {t}: {found} {expected}"
                );
            }
            assert!(evaluate(simd, false, f32::NAN).is_nan());
            for t in [-88.0, -1e30, f32::NEG_INFINITY] {
                assert!((0.0..2e-38).contains(&evaluate(simd, false, t)), "{simd} {t}");
            }
        }
    }

    #[test]
    fn gelu_is_accurate_everywhere() {
        let gelu =
            |t: f64| t / (1.0 + (-(8.0 / std::f64::consts::PI).sqrt() * (t + 0.044715 * t.powi(3))).exp());
        for simd in Simd::available() {
            for i in -9_990..=20_000 {
                let t = i as f32 / 1000.0;
                let (found, expected) = (evaluate(simd, true, t), gelu(f64::from(t)));
                // The exponent, up to 87, is rounded to f32: its error shows where GELU is all but zero.
                let tolerance = expected.abs() * 2f64.powi(if t < -2.0 { -16 } else { -21 });
                assert!((found - expected).abs() <= tolerance, "{simd} {t}: {found} {expected}");
            }
            for t in (0..=1000).map(|i| -10.0 - i as f32 / 100.0).chain([-60000.0, f32::MIN]) {
                let (found, expected) = (evaluate(simd, true, t), gelu(f64::from(t)));
                let subnormal = f64::from(f32::MIN_POSITIVE);
                let tolerance = expected.abs() * 2f64.powi(-16) + subnormal;
                assert!((found - expected).abs() <= tolerance, "{simd} {t}: {found} {expected}");
            }
            assert_eq!(evaluate(simd, true, f32::NEG_INFINITY), 0.0);
            for t in [60000.0, f32::MAX, f32::INFINITY] {
                assert_eq!(evaluate(simd, true, t), f64::from(t), "{simd}");
            }
            assert!(evaluate(simd, true, f32::NAN).is_nan());
        }
    }
}

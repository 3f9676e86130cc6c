//! Elementary functions that a GPU approximates, with errors that the manual bounds.
//!
//! A GPU computes one function of the input; which one, the manual leaves open up to an error. So does the
//! machine: the schedule's seed chooses the function. It is not a lane's choice, so that equal inputs give
//! equal results.

/// Which function: which of the values that are near enough each input gets.
#[derive(Clone, Copy, Debug)]
enum Choice {
    /// The nearest.
    Nearest,
    /// The smallest: all errors have one sign, so that they add up.
    Lowest,
    /// The largest.
    Highest,
    /// Any, by a hash of seed and input.
    Any(u64),
}

impl Choice {
    fn of(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::Nearest,
            1 => Self::Lowest,
            2 => Self::Highest,
            _ => Self::Any(seed),
        }
    }

    /// One of the f32 that are at most `error` from `centre`, for the input `x` of so many bits. `nearest` is
    /// the one nearest to the exact value; it is finite, and not zero.
    fn value(self, x: u64, nearest: f32, centre: f64, error: f64) -> f32 {
        let within = |value: f32| (f64::from(value) - centre).abs() <= error;
        if matches!(self, Self::Nearest) || !within(nearest) {
            return nearest;
        }
        // As bits, neighbours of the same sign differ by one.
        let bits = i64::from(nearest.to_bits());
        let at = |step: i64| f32::from_bits((bits + step) as u32);
        let is_in = |step: i64| {
            let value = at(step);
            value.is_finite() && value.is_sign_negative() == nearest.is_sign_negative() && within(value)
        };
        // How far it goes on either side: twice as far while it does, then back by halves.
        let reach = |sign: i64| {
            let mut far = 0;
            let mut step = 1;
            while is_in(sign * (far + step)) {
                far += step;
                step *= 2;
            }
            while step > 0 {
                if is_in(sign * (far + step)) {
                    far += step;
                }
                step /= 2;
            }
            sign * far
        };
        let (below, above) = (reach(-1), reach(1));
        let ends = [at(below), at(above)];
        match self {
            Self::Nearest => nearest,
            Self::Lowest => ends[0].min(ends[1]),
            Self::Highest => ends[0].max(ends[1]),
            Self::Any(seed) => {
                let count = (above - below + 1) as u64;
                at(below + (mix(x ^ mix(seed)) % count) as i64)
            }
        }
    }
}

/// A hash: the last step of SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Subnormal numbers to zero of their sign.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// The distance between the f32 of the binade of `x`, which is in the range of normal numbers.
fn ulp(x: f64) -> f64 {
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    2f64.powi(exponent - 23)
}

fn flush_if(ftz: bool, x: f32) -> f32 {
    if ftz { flush(x) } else { x }
}

fn input(x: f32) -> u64 {
    u64::from(x.to_bits())
}

/// `ex2.approx{.ftz}.f32`: at most 2 ulp from the correctly rounded result. PTX ISA, "ex2".
pub(crate) fn ex2(seed: u64, x: f32, ftz: bool) -> f32 {
    let x = flush_if(ftz, x);
    let nearest = f64::from(x).exp2() as f32;
    // CUDA's own functions count on exact powers of two.
    if x.trunc() == x || !nearest.is_finite() || flush(nearest) == 0.0 {
        return flush_if(ftz, nearest);
    }
    let rounded = f64::from(nearest);
    flush_if(ftz, Choice::of(seed).value(input(x), nearest, rounded, 2.0 * ulp(rounded)))
}

/// `lg2.approx{.ftz}.f32`: an error of at most 2^-22, relative to the result beyond inputs of 0.5 to 2. PTX
/// ISA, "lg2".
pub(crate) fn lg2(seed: u64, x: f32, ftz: bool) -> f32 {
    let x = flush_if(ftz, x);
    let exact = f64::from(x).log2();
    let nearest = exact as f32;
    if !nearest.is_finite() || nearest == 0.0 {
        return nearest;
    }
    let scale = if (0.5..2.0).contains(&x) { 1.0 } else { exact.abs() };
    flush_if(ftz, Choice::of(seed).value(input(x), nearest, exact, scale * 2f64.powi(-22)))
}

/// `rcp.approx{.ftz}.f32`: at most 1 ulp from the exact value. PTX ISA, "rcp".
pub(crate) fn rcp(seed: u64, x: f32, ftz: bool) -> f32 {
    let x = flush_if(ftz, x);
    quotient(seed, input(x), 1.0 / f64::from(x), 1.0, ftz)
}

/// `div.approx{.ftz}.f32`, and `div.full`: at most 2 ulp. PTX ISA, "div".
pub(crate) fn div(seed: u64, x: f32, y: f32, full: bool, ftz: bool) -> f32 {
    let (x, y) = (flush_if(ftz, x), flush_if(ftz, y));
    if !full && y.is_finite() && y.abs() > 2f32.powi(126) {
        // Where its reciprocal is too small.
        return if x.is_infinite() { f32::NAN } else { 0f32.copysign(x * y.signum()) };
    }
    quotient(seed, input(x) << 32 | input(y), f64::from(x) / f64::from(y), 2.0, ftz)
}

fn quotient(seed: u64, input: u64, exact: f64, ulps: f64, ftz: bool) -> f32 {
    let nearest = exact as f32;
    if !nearest.is_finite() || flush(nearest) == 0.0 {
        return flush_if(ftz, nearest);
    }
    flush_if(ftz, Choice::of(seed).value(input, nearest, exact, ulps * ulp(exact)))
}

/// `rsqrt.approx{.ftz}.f32`: a relative error of at most 2^-22.9. PTX ISA, "rsqrt".
pub(crate) fn rsqrt(seed: u64, x: f32, ftz: bool) -> f32 {
    let x = flush_if(ftz, x);
    relative(seed, x, 1.0 / f64::from(x).sqrt(), -22.9, ftz)
}

/// `sqrt.approx{.ftz}.f32`: a relative error of at most 2^-23. PTX ISA, "sqrt".
pub(crate) fn sqrt(seed: u64, x: f32, ftz: bool) -> f32 {
    let x = flush_if(ftz, x);
    relative(seed, x, f64::from(x).sqrt(), -23.0, ftz)
}

/// `tanh.approx.f32`: a relative error of at most 2^-11. PTX ISA, "tanh".
pub(crate) fn tanh(seed: u64, x: f32) -> f32 {
    let value = relative(seed, x, f64::from(x).tanh(), -11.0, false);
    value.clamp(-1.0, 1.0)
}

/// `sin.approx.f32` and `cos.approx.f32`: an absolute error of at most 2^-20.5 up to π. PTX ISA, "sin",
/// "cos".
pub(crate) fn circular(seed: u64, x: f32, exact: f64) -> f32 {
    let nearest = exact as f32;
    if !nearest.is_finite() || nearest == 0.0 || x == 0.0 {
        return nearest;
    }
    Choice::of(seed).value(input(x), nearest, exact, 2f64.powf(-20.5)).clamp(-1.0, 1.0)
}

fn relative(seed: u64, x: f32, exact: f64, error: f64, ftz: bool) -> f32 {
    let nearest = exact as f32;
    if !nearest.is_finite() || nearest == 0.0 {
        return nearest;
    }
    flush_if(ftz, Choice::of(seed).value(input(x), nearest, exact, exact.abs() * 2f64.powf(error)))
}

//! Elementary functions that a GPU approximates, with errors that the manual bounds.
//!
//! A GPU computes one function of the input; which one, the manual leaves open up to an error. So does the machine: the
//! schedule's seed chooses the function. It is not a lane's choice, so that equal inputs give equal results.

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

    /// One of the f32 that are at most `error` from `centre`, for the input `x`. `nearest` is the one nearest to the exact
    /// value; it is finite, and not zero.
    fn value(self, x: f32, nearest: f32, centre: f64, error: f64) -> f32 {
        // As bits, neighbours of the same sign differ by one; the bounds are a few of those.
        let bits = nearest.to_bits();
        let near = (-4..=4)
            .map(|step| f32::from_bits(bits.wrapping_add_signed(step)))
            .filter(|value| (f64::from(*value) - centre).abs() <= error);
        let chosen = match self {
            Self::Nearest => None,
            Self::Lowest => near.reduce(f32::min),
            Self::Highest => near.reduce(f32::max),
            Self::Any(seed) => {
                let count = near.clone().count() as u64;
                near.clone().nth((mix(u64::from(x.to_bits()) ^ mix(seed)) % count.max(1)) as usize)
            }
        };
        flush(chosen.unwrap_or(nearest))
    }
}

/// A hash: the last step of SplitMix64 (Steele, Lea and Flood, 2014).
fn mix(x: u64) -> u64 {
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

/// `ex2.approx.ftz.f32`: at most 2 ulp from the correctly rounded result.
pub(crate) fn ex2(seed: u64, x: f32) -> f32 {
    let x = flush(x);
    let nearest = f64::from(x).exp2() as f32;
    if x == 0.0 || !nearest.is_finite() || flush(nearest) == 0.0 {
        return flush(nearest);
    }
    let rounded = f64::from(nearest);
    Choice::of(seed).value(x, nearest, rounded, 2.0 * ulp(rounded))
}

/// `rcp.approx.ftz.f32`: at most 1 ulp from the exact value.
pub(crate) fn rcp(seed: u64, x: f32) -> f32 {
    let x = flush(x);
    let exact = 1.0 / f64::from(x);
    let nearest = exact as f32;
    if !nearest.is_finite() || flush(nearest) == 0.0 {
        return flush(nearest);
    }
    Choice::of(seed).value(x, nearest, exact, ulp(exact))
}

/// `rsqrt.approx.ftz.f32`: a relative error of at most 2^-22.9.
pub(crate) fn rsqrt(seed: u64, x: f32) -> f32 {
    let x = flush(x);
    let exact = 1.0 / f64::from(x).sqrt();
    let nearest = exact as f32;
    if !nearest.is_finite() || nearest == 0.0 {
        return nearest;
    }
    Choice::of(seed).value(x, nearest, exact, exact * 2f64.powf(-22.9))
}

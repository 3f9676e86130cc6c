//! How fast this machine can do f32 multiply-adds at all, with all threads at once.
//!
//! Every product that is timed beside it sums in f32, so none can be faster. The loop touches no memory: each
//! thread keeps more independent sums in registers than the units have stages, and adds to them in turn.

use std::hint::black_box;

use fused_lora::Strategy;

use crate::method::Method;
use crate::tokens::Tokens;

/// Independent sums, each a vector: as many as units times stages at least, and no more than fit the registers
/// beside the factors. x86-64 has two units of four stages, and sixteen registers with AVX2; large aarch64 cores have
/// four units of four stages, and 32 registers. (Where there is neither, the rate has not been compared with a data sheet.)
const SUMS: usize = if cfg!(target_arch = "aarch64") { 24 } else { 12 };
/// Operations of one call, bounded: long enough to time, short enough to repeat.
const FEWEST: f64 = 0.4e9;
const MOST: f64 = 4e9;

/// Multiply-adds on all threads.
pub struct Peak {
    steps: usize,
}

impl Peak {
    /// A loop of about as many operations as what it is compared with, or fewer.
    #[must_use]
    pub fn new(flops: f64) -> Peak {
        let per_step = step_flops() * rayon::current_num_threads() as f64;
        Peak { steps: (flops.clamp(FEWEST, MOST) / per_step).ceil() as usize }
    }

    /// Operations of one call, a multiply-add counted as two.
    #[must_use]
    pub fn flops(&self) -> f64 {
        self.steps as f64 * step_flops() * rayon::current_num_threads() as f64
    }
}

impl Method for Peak {
    fn name(&self) -> &str {
        "fma-peak"
    }

    fn computes(&self) -> Option<Strategy> {
        None
    }

    fn call(&mut self, _: usize, _: &mut [Tokens]) -> anyhow::Result<()> {
        let steps = self.steps;
        rayon::broadcast(|_| multiply_add(steps));
        Ok(())
    }
}

/// Operations of one step on one thread.
fn step_flops() -> f64 {
    (2 * SUMS * lanes()) as f64
}

/// f32 that one multiply-add works on.
fn lanes() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return x86::AVX512_LANES;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return x86::AVX2_LANES;
        }
    }
    portable::LANES
}

/// One thread's part.
fn multiply_add(steps: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature was just found.
            unsafe { x86::avx512(steps) };
            return;
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features were just found.
            unsafe { x86::avx2(steps) };
            return;
        }
    }
    portable::multiply_add(steps);
}

/// sum ← sum · FACTOR + TERM goes to 1: no overflow, and no denormals, which are slow.
const FACTOR: f32 = 0.5;
const TERM: f32 = 0.5;

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm512_fmadd_ps, _mm512_set1_ps};

    use super::{FACTOR, SUMS, TERM, black_box};

    pub(super) const AVX512_LANES: usize = 16;
    pub(super) const AVX2_LANES: usize = 8;

    #[target_feature(enable = "avx512f")]
    pub(super) fn avx512(steps: usize) {
        let (factor, term) = (_mm512_set1_ps(black_box(FACTOR)), _mm512_set1_ps(black_box(TERM)));
        let mut sums = [term; SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, term);
            }
        }
        black_box(sums);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn avx2(steps: usize) {
        let (factor, term) = (_mm256_set1_ps(black_box(FACTOR)), _mm256_set1_ps(black_box(TERM)));
        let mut sums = [term; SUMS];
        for _ in 0..steps {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(*sum, factor, term);
            }
        }
        black_box(sums);
    }
}

mod portable {
    use super::{FACTOR, SUMS, TERM, black_box};

    /// Of the vectors that every 64-bit target has.
    pub(super) const LANES: usize = 4;

    pub(super) fn multiply_add(steps: usize) {
        let (factor, term) = (black_box(FACTOR), black_box(TERM));
        let mut sums = [[term; LANES]; SUMS];
        for _ in 0..steps {
            for sum in sums.as_flattened_mut() {
                // Without the instruction `mul_add` is a call into the C library.
                *sum = if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                    sum.mul_add(factor, term)
                } else {
                    *sum * factor + term
                };
            }
        }
        black_box(sums);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// If the loop were optimised away, or took no more time for more steps, its rate would be no peak.
    #[test]
    fn twice_the_steps_take_twice_the_time() {
        let time = |steps: usize| {
            let start = Instant::now();
            multiply_add(steps);
            start.elapsed().as_secs_f64()
        };
        // In turn, and the fastest of many: other tests run beside this one.
        let mut fastest = [f64::INFINITY; 2];
        for _ in 0..40 {
            for (fastest, steps) in fastest.iter_mut().zip([200_000, 400_000]) {
                *fastest = fastest.min(time(steps));
            }
        }
        let ratio = fastest[1] / fastest[0];
        assert!((1.4..=3.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn the_rate_is_that_of_a_processor() {
        let steps = 300_000;
        let start = Instant::now();
        multiply_add(steps);
        let gflops = steps as f64 * step_flops() / start.elapsed().as_nanos() as f64;
        // One thread of anything from the last ten years; a debug build is optimised too.
        assert!((1.0..=1000.0).contains(&gflops), "{gflops} GFLOP/s");
    }

    #[test]
    fn a_call_does_what_it_says() {
        for flops in [0.0, 1e9, 1e12] {
            let peak = Peak::new(flops);
            let asked = flops.clamp(FEWEST, MOST);
            assert!(peak.flops() >= asked && peak.flops() < asked * 1.001 + 1e6, "{flops}: {}", peak.flops());
        }
    }
}

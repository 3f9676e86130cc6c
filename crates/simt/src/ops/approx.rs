//! Elementary functions, and the fused multiply-add.

use crate::{approx, scheduler::with};

/// `ex2.approx.ftz.f32`: a value at most 2 ulp from the correctly rounded 2 to the power of x. PTX ISA 9.7.3.21.
///
/// Which one the [seed](crate::Schedule::seed) of the schedule says, modulo 4: the nearest for 0, the lowest for 1, the
/// highest for 2, any for 3; in one run always the same for the same x. So it is for the other approximations.
#[must_use]
pub fn ex2_approx(x: f32) -> f32 {
    approx::ex2(with(|run| run.schedule.seed), x)
}

/// `rcp.approx.ftz.f32`: a value at most 1 ulp from 1/x. PTX ISA 9.7.3.13.
#[must_use]
pub fn rcp_approx(x: f32) -> f32 {
    approx::rcp(with(|run| run.schedule.seed), x)
}

/// `rsqrt.approx.ftz.f32`: a value with a relative error of at most 2^-22.9 from 1/√x. PTX ISA 9.7.3.16.
#[must_use]
pub fn rsqrt_approx(x: f32) -> f32 {
    approx::rsqrt(with(|run| run.schedule.seed), x)
}

/// `fma.rn.f32`: a · b + c, rounded once.
#[must_use]
pub fn fma(a: f32, b: f32, c: f32) -> f32 {
    a.mul_add(b, c)
}

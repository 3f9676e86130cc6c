//! Elementary functions.

use crate::{approx, scheduler::with};

/// `ex2.approx.ftz.f32`: a value at most 2 ulp from the correctly rounded 2 to the power of x. PTX ISA,
/// "ex2".
///
/// Which one the [seed](crate::Schedule::seed) of the schedule says, modulo 4: the nearest for 0, the lowest
/// for 1, the highest for 2, any for 3; in one run always the same for the same x. So it is for the other
/// approximations.
#[must_use]
pub fn ex2_approx(x: f32) -> f32 {
    ex2_approx_of(x, true)
}

/// `rcp.approx.ftz.f32`: a value at most 1 ulp from 1/x. PTX ISA, "rcp".
#[must_use]
pub fn rcp_approx(x: f32) -> f32 {
    rcp_approx_of(x, true)
}

/// `rsqrt.approx.ftz.f32`: a value with a relative error of at most 2^-22.9 from 1/√x. PTX ISA, "rsqrt".
#[must_use]
pub fn rsqrt_approx(x: f32) -> f32 {
    rsqrt_approx_of(x, true)
}

/// `ex2.approx.f32`, with `.ftz` or without.
pub(crate) fn ex2_approx_of(x: f32, ftz: bool) -> f32 {
    approx::ex2(with(|run| run.schedule.seed), x, ftz)
}

/// `rcp.approx.f32`.
pub(crate) fn rcp_approx_of(x: f32, ftz: bool) -> f32 {
    approx::rcp(with(|run| run.schedule.seed), x, ftz)
}

/// `rsqrt.approx.f32`.
pub(crate) fn rsqrt_approx_of(x: f32, ftz: bool) -> f32 {
    approx::rsqrt(with(|run| run.schedule.seed), x, ftz)
}

/// `lg2.approx.f32`.
pub(crate) fn lg2_approx(x: f32, ftz: bool) -> f32 {
    approx::lg2(with(|run| run.schedule.seed), x, ftz)
}

/// `sqrt.approx.f32`.
pub(crate) fn sqrt_approx(x: f32, ftz: bool) -> f32 {
    approx::sqrt(with(|run| run.schedule.seed), x, ftz)
}

/// `div.approx.f32`, or `div.full.f32`.
pub(crate) fn div_approx(x: f32, y: f32, full: bool, ftz: bool) -> f32 {
    approx::div(with(|run| run.schedule.seed), x, y, full, ftz)
}

/// `tanh.approx.f32`.
pub(crate) fn tanh_approx(x: f32) -> f32 {
    approx::tanh(with(|run| run.schedule.seed), x)
}

/// `sin.approx.f32`.
pub(crate) fn sin_approx(x: f32) -> f32 {
    approx::circular(with(|run| run.schedule.seed), x, f64::from(x).sin())
}

/// `cos.approx.f32`.
pub(crate) fn cos_approx(x: f32) -> f32 {
    approx::circular(with(|run| run.schedule.seed), x, f64::from(x).cos())
}

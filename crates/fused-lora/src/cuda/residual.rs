//! What a call adds to y last.

use super::matrix::Matrix;

/// What a call adds to y last, in f32, before the one rounding: `[M, N]`, any row stride. As
/// [`fused_lora::Residual`](crate::Residual), with matrices on a device.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub enum Residual<'a> {
    /// Nothing.
    #[default]
    None,
    /// What y holds.
    Output,
    /// A matrix. What it shares with y, which raw parts alone can make it, has to lie in the same place in both.
    Matrix(Matrix<'a>),
    /// Two matrices: a skip within a module beside the one around it.
    Sum(Matrix<'a>, Matrix<'a>),
}

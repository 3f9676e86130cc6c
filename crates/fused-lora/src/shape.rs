//! What every backend asks of the operands of layers, adapters and calls.

use ndarray::ArrayView2;

use crate::error::{Error, Operand};

/// M, N and K must be at least 1.
pub(crate) fn require_nonzero(operand: Operand, shape: &[usize]) -> Result<(), Error> {
    if shape.contains(&0) { Err(Error::ZeroSize { operand, shape: shape.to_vec() }) } else { Ok(()) }
}

pub(crate) fn require(
    operand: Operand,
    axis: &'static str,
    expected: usize,
    found: usize,
) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Shape { operand, axis, expected, found }) }
}

/// An adapter by itself: `a: [r, K]`, `b: [N, r]`, K and N at least 1, a finite scale.
pub(crate) fn check_adapter<T>(
    a: &ArrayView2<'_, T>,
    b: &ArrayView2<'_, T>,
    scale: f32,
) -> Result<(), Error> {
    require_nonzero(Operand::A, &a.shape()[1..])?;
    require_nonzero(Operand::B, &b.shape()[..1])?;
    require(Operand::B, "columns", a.nrows(), b.ncols())?;
    if scale.is_finite() { Ok(()) } else { Err(Error::Scale { scale }) }
}

/// An adapter with these N and K for W: `[N, K]`.
pub(crate) fn check_fit([n, k]: [usize; 2], [adapter_n, adapter_k]: [usize; 2]) -> Result<(), Error> {
    require(Operand::A, "columns", k, adapter_k)?;
    require(Operand::B, "rows", n, adapter_n)
}

/// The matrices of a call: an input `[M, K]`, M and K at least 1, and y and what is added to it, `[M, N]`.
pub(crate) fn check_call(
    weight: [usize; 2],
    (input, shape): (Operand, [usize; 2]),
    outputs: impl IntoIterator<Item = (Operand, [usize; 2])>,
) -> Result<(), Error> {
    require_nonzero(input, &shape)?;
    check_fits(weight, (input, shape), outputs)
}

/// As [`check_call`], but M may be 0.
pub(crate) fn check_fits(
    [n, k]: [usize; 2],
    (input, [m, columns]): (Operand, [usize; 2]),
    outputs: impl IntoIterator<Item = (Operand, [usize; 2])>,
) -> Result<(), Error> {
    require(input, "columns", k, columns)?;
    outputs.into_iter().try_for_each(|(operand, [rows, columns])| {
        require(operand, "rows", m, rows)?;
        require(operand, "columns", n, columns)
    })
}

//! What every backend asks of shapes.

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

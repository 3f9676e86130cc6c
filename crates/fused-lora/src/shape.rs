//! What every backend asks of the operands of layers, adapters and calls.

use std::ops::Range;

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

/// The columns of y, of N, that an adapter adds to.
pub(crate) fn check_columns(columns: &Range<usize>, out_features: usize) -> Result<(), Error> {
    if columns.is_empty() || columns.end > out_features {
        return Err(Error::Columns { columns: (columns.start, columns.end), out_features });
    }
    Ok(())
}

/// The segments of a batch of `m` rows, in order and without overlap, and their adapters: each, with its
/// index, as `adapter` finds it in a table of `count`.
pub(crate) fn check_segments<A>(
    m: usize,
    segments: &[(Range<usize>, Option<usize>)],
    count: usize,
    adapter: impl Fn(usize) -> Option<A>,
) -> Result<Vec<(Range<usize>, A)>, Error> {
    let mut checked = Vec::with_capacity(segments.len());
    let mut end = 0;
    for (index, (rows, of)) in segments.iter().enumerate() {
        if rows.start < end || rows.end < rows.start || rows.end > m {
            return Err(Error::SegmentRows { index, rows: (rows.start, rows.end), allowed: (end, m) });
        }
        end = rows.end;
        if let Some(of) = *of {
            let found = adapter(of).ok_or(Error::SegmentAdapter { index, adapter: of, count })?;
            checked.push((rows.clone(), found));
        }
    }
    Ok(checked)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_in_disorder_are_refused_with_their_place() {
        let check = |rows: &[(Range<usize>, Option<usize>)]| {
            check_segments(40, rows, 2, |index| (index < 2).then_some(index))
        };
        let rows = |index, rows, allowed| Err(Error::SegmentRows { index, rows, allowed });
        assert_eq!(check(&[(0..5, None), (4..9, Some(0))]), rows(1, (4, 9), (5, 40)));
        assert_eq!(check(&[(0..41, None)]), rows(0, (0, 41), (0, 40)));
        assert_eq!(check(&[(50..50, None)]), rows(0, (50, 50), (0, 40)));
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        let reversed = 9..4;
        assert_eq!(check(&[(reversed, None)]), rows(0, (9, 4), (0, 40)));
        assert_eq!(
            check(&[(0..5, Some(1)), (5..6, Some(2))]),
            Err(Error::SegmentAdapter { index: 1, adapter: 2, count: 2 })
        );
        let kept = check(&[(0..5, Some(1)), (5..9, None), (9..9, Some(0))]).unwrap();
        assert_eq!(kept, [(0..5, 1), (9..9, 0)]);
    }
}

//! No output, no time: y of the first slot is compared with the reference before a method is timed.

use ndarray::Array2;

use crate::method::{Call, Expected, Method};

/// How far a y is off, relative to what is allowed: 1 is the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Of the worst element.
    pub element: f64,
    /// Of all of them together.
    pub norm: f64,
    /// Row and column of the worst element.
    pub at: (usize, usize),
}

/// Why a method is not timed.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// y was poisoned, and some of it still is.
    #[error("{at}: {missing} of {total} elements of y are NaN, or were not written")]
    NotWritten {
        /// Method, rank, and number of the product.
        at: String,
        /// Elements that are NaN.
        missing: usize,
        /// Elements that y has.
        total: usize,
    },
    /// y is not what the reference has.
    #[error(
        "{at}, is wrong: its worst element, in row {} and column {}, is off by {:.2} times what is allowed, \
         all of them together by {:.2} times",
        .deviation.at.0, .deviation.at.1, .deviation.element, .deviation.norm
    )]
    Mismatch {
        /// Method, rank, and number of the product.
        at: String,
        /// How far it is off.
        deviation: Deviation,
    },
    /// The method itself fails, y has another shape than the reference, or there are fewer products.
    #[error("{0}")]
    NoResult(String),
}

/// Runs a method on poisoned outputs and compares every product with the reference, up to the first thing
/// that is wrong.
pub fn check(method: &Method, call: &mut dyn Call, expected: &[Expected]) -> Result<(), Wrong> {
    let name = format!("{} at r{}", method.names[0], method.rank);
    let mut outputs = || {
        call.poison()?;
        call.call(0)?;
        call.output()
    };
    let outputs = outputs().map_err(|error| Wrong::NoResult(format!("{name}: {error:#}")))?;
    let found: Vec<(usize, usize)> = outputs.iter().map(Array2::dim).collect();
    let columns: Vec<usize> = expected.iter().map(|expected| expected.y.ncols()).collect();
    if !found.iter().map(|(_, columns)| columns).eq(&columns) {
        return Err(Wrong::NoResult(format!("{name} has y of {found:?}, not of {columns:?} columns")));
    }
    let mut wrong = None;
    for (product, (output, expected)) in outputs.iter().zip(expected).enumerate() {
        let at = format!("{name}, product {product}");
        // y was poisoned: they were not written, or are wrong.
        let missing = output.iter().filter(|value| value.is_nan()).count();
        if missing > 0 {
            return Err(Wrong::NotWritten { at, missing, total: output.len() });
        }
        let deviation = Deviation::of(output, expected);
        // Not `>`: a NaN is wrong.
        if !(deviation.element <= 1.0 && deviation.norm <= 1.0) {
            wrong.get_or_insert(Wrong::Mismatch { at, deviation });
        }
    }
    wrong.map_or(Ok(()), Err)
}

impl Deviation {
    fn of(output: &Array2<f32>, expected: &Expected) -> Deviation {
        let mut worst = Deviation::default();
        let (mut error, mut norm) = (0.0, 0.0);
        for &(row, of_reference) in &expected.rows {
            let (y, tolerance) = (expected.y.row(of_reference), expected.tolerance.row(of_reference));
            for (column, (&y, &tolerance)) in y.iter().zip(&tolerance).enumerate() {
                let off = f64::from(output[[row, column]]) - y;
                let element = off.abs() / tolerance;
                if element > worst.element || element.is_nan() {
                    (worst.element, worst.at) = (element, (row, column));
                }
                error += off * off;
                norm += y * y;
            }
        }
        worst.norm = if error == 0.0 { 0.0 } else { (error / norm).sqrt() / expected.norm_tolerance };
        worst
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;
    use crate::testing::{MadeCall, method};
    use crate::time::Time;

    /// Returns what it is told to.
    fn made(y: Array2<f16>) -> MadeCall {
        MadeCall { run: Box::new(|_| Ok(Time { wall: 1.0, cpu: None })), y }
    }

    /// y[i][j] = 1 + i + j; rows 0 and 3 of four are compared.
    fn expected() -> Expected {
        Expected {
            rows: vec![(0, 0), (3, 1)],
            y: Array2::from_shape_fn((2, 5), |(i, j)| (1 + 3 * i + j) as f64),
            tolerance: Array2::from_elem((2, 5), 0.25),
            norm_tolerance: 0.1,
        }
    }

    fn right() -> Array2<f16> {
        Array2::from_shape_fn((4, 5), |(i, j)| f16::from_f32((1 + i + j) as f32))
    }

    fn result(spoil: impl FnOnce(&mut Array2<f16>)) -> Result<(), Wrong> {
        let mut y = right();
        spoil(&mut y);
        check(&method("fused", 10, Some(0)), &mut made(y), &[expected()])
    }

    #[test]
    fn right_outputs_pass_and_wrong_ones_are_named() {
        result(|_| ()).unwrap();
        result(|y| y[[3, 4]] = f16::from_f32(8.2)).unwrap();
        let error = result(|y| y[[3, 4]] = f16::from_f32(8.5)).unwrap_err();
        let text = error.to_string();
        for part in ["fused at r10", "row 3 and column 4", "off by 2.00 times"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        // All elements within their tolerance, but too many of them off.
        let error = result(|y| y.mapv_inplace(|v| v + f16::from_f32(0.25))).err();
        assert!(error.is_none(), "0.25 is 5 % of the norm: {error:?}");
        let strict = Expected { norm_tolerance: 0.01, ..expected() };
        let y = right().mapv(|v| v + f16::from_f32(0.2));
        let error = check(&method("m", 0, None), &mut made(y), &[strict]).unwrap_err();
        let Wrong::Mismatch { deviation, .. } = error else { panic!("{error}") };
        assert!(deviation.norm > 1.0 && deviation.element < 1.0, "{deviation:?}");
    }

    #[test]
    fn an_element_that_is_not_written_fails_wherever_it_is() {
        let error = result(|y| y[[1, 2]] = f16::NAN).unwrap_err();
        assert!(matches!(error, Wrong::NotWritten { missing: 1, total: 20, .. }), "{error}");
    }

    #[test]
    fn what_fails_or_has_another_shape_is_no_result() {
        let mut call = made(right());
        call.run = Box::new(|_| anyhow::bail!("the device is gone"));
        let failed = check(&method("m", 7, None), &mut call, &[expected()]).unwrap_err();
        assert_eq!(failed.to_string(), "m at r7: the device is gone");
        let two = [expected(), expected()];
        let error = check(&method("m", 7, None), &mut made(right()), &two).unwrap_err();
        assert_eq!(error.to_string(), "m at r7 has y of [(4, 5)], not of [5, 5] columns");
    }
}

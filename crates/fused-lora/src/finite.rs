//! Whether y is finite where its inputs are.

use ndarray::ArrayView2;

use crate::{
    element::Element,
    error::{Error, Operand},
    shape::require,
};

/// Checks that y is finite in every row in which x is: `x: [M, K]`, `y: [M, N]`. What is finite in f32 may be
/// beyond f16 (65504), and an infinity or NaN spreads through all layers that come after. Reads x and y once. For
/// results of a GPU, and for y in another type; on a CPU,
/// [`Call::run_checked`](crate::cpu::Call::run_checked) looks at residuals, too.
///
/// # Errors
///
/// [`Error::NotFinite`] with the first such element, [`Error::Shape`] if x and y differ in M.
pub fn check_finite<T: Element, U: Element>(x: ArrayView2<'_, T>, y: ArrayView2<'_, U>) -> Result<(), Error> {
    require(Operand::Y, "rows", x.nrows(), y.nrows())?;
    check_rows(&finite_rows(x.nrows(), &[x]), y)
}

/// The rows in which all of `inputs` are finite; each has `m` rows.
pub(crate) fn finite_rows<T: Element>(m: usize, inputs: &[ArrayView2<'_, T>]) -> Vec<bool> {
    let finite = |i| inputs.iter().all(|input| input.row(i).iter().all(|value| value.to_f32().is_finite()));
    (0..m).map(finite).collect()
}

/// `rows`: those in which y should be finite.
pub(crate) fn check_rows<T: Element>(rows: &[bool], y: ArrayView2<'_, T>) -> Result<(), Error> {
    for (row, values) in y.outer_iter().enumerate().filter(|(row, _)| rows[*row]) {
        if let Some(column) = values.iter().position(|value| !value.to_f32().is_finite()) {
            return Err(Error::NotFinite { row, column, value: values[column].to_f32(), dtype: T::DTYPE });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use half::f16;
    use ndarray::arr2;

    use super::*;

    #[test]
    fn the_first_row_whose_x_is_finite_is_named() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let x = arr2(&[[1.0, inf], [0.0, 1.0], [nan, 0.0]]);
        let y = |row: [f32; 3]| arr2(&[[inf, nan, 0.0], row, [nan, nan, nan]]).mapv(f16::from_f32);
        check_finite(x.view(), y([1.0, 65504.0, 0.0]).view()).unwrap();
        let error = check_finite(x.view(), y([1.0, 65520.0, nan]).view()).unwrap_err();
        assert_eq!(error, Error::NotFinite { row: 1, column: 1, value: inf, dtype: f16::DTYPE });
        assert!(check_finite(x.view(), y([0.0; 3]).slice(ndarray::s![..2, ..])).is_err());
    }
}

//! What y should be: some rows of x, in all columns, by the reference in f64.

use fused_lora::reference::{self, Inputs, LoraView};
use fused_lora::{AdapterElement, Strategy};
use ndarray::{Array2, ArrayView2, Axis, concatenate, s};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{SeedableRng, seq};
use rayon::prelude::*;

use crate::number::Number;

/// Rows that are compared, in every column. The f64 reference of all of them would take minutes at M = 16384.
const ROWS: [usize; 2] = [4, 16];
/// Multiply-adds of the reference that are worth it: a tenth of a second.
const REFERENCE: usize = 64 << 20;
/// Columns of y that one call of the reference computes: their rows of W, widened, fit a cache.
const COLUMNS: usize = 64;

/// y of these inputs, and by how much each element may be off. Columns of y do not depend on each other: all
/// threads compute some. An error if shapes do not fit.
pub fn expected<T: Number, H: AdapterElement<T>>(
    inputs: &Inputs<'_, T, H>,
    strategy: Strategy,
) -> anyhow::Result<[Array2<f64>; 2]> {
    let Inputs { x, w, adapter, epilogue } = *inputs;
    if x.nrows() == 0 {
        return Ok([(); 2].map(|()| Array2::zeros((0, w.nrows()))));
    }
    let part = |first: usize| {
        let rows = first..(first + COLUMNS).min(w.nrows());
        let adapter = adapter.map(|LoraView { a, b, scale }| LoraView {
            a,
            b: b.slice_move(s![rows.clone(), ..]),
            scale,
        });
        let mut epilogue = epilogue.clone();
        epilogue.bias = epilogue.bias.map(|bias| bias.slice(s![rows.clone()]).to_owned());
        let inputs = Inputs { x, w: w.slice(s![rows, ..]), adapter, epilogue: &epilogue };
        reference::forward_summed(&inputs, &[], strategy, T::SUMS)
    };
    let firsts = (0..w.nrows()).step_by(COLUMNS).collect::<Vec<_>>();
    let parts = firsts.into_par_iter().map(part).collect::<Result<Vec<_>, _>>()?;
    let whole = |of: fn(&reference::Expected) -> ArrayView2<'_, f64>| {
        concatenate(Axis(1), &parts.iter().map(of).collect::<Vec<_>>())
    };
    Ok([whole(|part| part.y.view())?, whole(|part| part.tolerance.view())?])
}

/// The rows of M that are compared, of weights with so many elements: first, last, and others drawn at random;
/// in order.
pub fn sampled_rows(m: usize, weights: usize) -> Vec<usize> {
    let count = (REFERENCE / weights.max(1)).clamp(ROWS[0], ROWS[1]);
    if m <= count {
        return (0..m).collect();
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(m as u64);
    let inner = seq::index::sample(&mut rng, m - 2, count - 2).into_iter().map(|i| i + 1);
    let mut rows: Vec<usize> = inner.chain([0, m - 1]).collect();
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use fused_lora::Epilogue;
    use half::f16;
    use ndarray::Array1;

    use super::*;
    use crate::normals::Normals;

    #[test]
    fn rows_hold_both_ends_and_repeat_none() {
        let small = 1 << 20;
        assert_eq!(sampled_rows(3, small), [0, 1, 2]);
        for (m, weights, count) in [(16, small, 16), (17, small, 16), (16_384, small, 16), (128, 16 << 20, 4)]
        {
            let rows = sampled_rows(m, weights);
            assert_eq!((rows.len(), rows[0], rows[count - 1]), (count, 0, m - 1));
            assert!(rows.is_sorted_by(|a, b| a < b), "{m}: {rows:?}");
        }
    }

    /// The reference in parts is the reference: with a bias and an adapter, and more columns than a part has.
    #[test]
    fn all_columns_of_the_reference_are_there() {
        let mut normals = Normals::<f16>::new(1);
        let mut matrix = |rows, columns| normals.matrix(0.1, rows, columns);
        let (x, w, a, b) =
            (matrix(2, 96), matrix(3 * COLUMNS + 5, 96), matrix(10, 96), matrix(3 * COLUMNS + 5, 10));
        let bias = Epilogue::bias(Array1::from_iter(matrix(1, w.nrows())));
        let adapter = Some(LoraView { a: a.view(), b: b.view(), scale: 1.5 });
        let inputs = Inputs { x: x.view(), w: w.view(), adapter, epilogue: &bias };
        for strategy in Strategy::ALL {
            let [y, tolerance] = expected(&inputs, strategy).unwrap();
            let whole = reference::forward(&inputs, strategy).unwrap();
            assert_eq!((y, tolerance), (whole.y, whole.tolerance));
        }
        let none = Inputs { x: x.slice(s![..0, ..]), ..inputs };
        assert_eq!(expected(&none, Strategy::Fused).unwrap()[0].dim(), (0, w.nrows()));
    }
}

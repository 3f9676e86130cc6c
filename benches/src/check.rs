//! No output, no time: what a method computes is compared with the reference before it is timed.

use fused_lora::Epilogue;
use fused_lora::reference::{self, Expected, Inputs, Mismatch};
use half::f16;
use ndarray::{Array2, Axis};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{SeedableRng, seq};

use crate::method::Method;
use crate::model::Linear;
use crate::tokens::Tokens;

/// Rows that are compared, in every column. The f64 reference of all of them would take minutes at M = 16384.
const ROWS: usize = 16;

/// Why a method is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Wrong {
    /// y was poisoned, and some of it still is.
    #[error(
        "{method}, projection {projection}: {missing} of {total} elements of y are NaN, or were not written"
    )]
    NotWritten {
        /// The method's name.
        method: String,
        /// Number of the projection in its workload.
        projection: usize,
        /// Elements that are NaN.
        missing: usize,
        /// Elements that y has.
        total: usize,
    },
    /// A sampled row is not what the reference has.
    #[error("{method}, projection {projection}, rows {rows:?} of y: {mismatch}")]
    Mismatch {
        /// The method's name.
        method: String,
        /// Number of the projection in its workload.
        projection: usize,
        /// The rows that were compared; the mismatch counts among them.
        rows: Vec<usize>,
        /// The first difference.
        mismatch: Box<Mismatch>,
        /// How far off the worst of all projections is.
        deviation: Deviation,
    },
    /// The reference refuses the operands.
    #[error("the reference refuses the operands: {0}")]
    Reference(#[from] fused_lora::Error),
    /// The method itself fails.
    #[error("{method}: {source}")]
    Failed {
        /// The method's name.
        method: String,
        /// What it says.
        source: anyhow::Error,
    },
}

/// How far an output is from the reference, relative to what is allowed: 1 is the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Deviation {
    /// Of the worst element: |y − ref| to its tolerance.
    pub element: f64,
    /// Of all of them: ‖y − ref‖ to 2u·‖ref‖.
    pub norm: f64,
}

/// Runs a method on poisoned outputs and compares every projection with the reference.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn check<L>(
    method: &mut (dyn Method + '_),
    linears: &[Linear<L>],
    rank: usize,
    tokens: &mut [Tokens],
) -> Result<(), Wrong> {
    for tokens in tokens.iter_mut() {
        tokens.y.fill(f16::NAN);
    }
    if let Err(source) = method.call(0, tokens) {
        return Err(Wrong::Failed { method: method.name().to_owned(), source });
    }

    let mut worst = Deviation::default();
    let mut first = None;
    for (projection, (linear, tokens)) in linears.iter().zip(tokens.iter()).enumerate() {
        let missing = tokens.y.iter().filter(|y| y.is_nan()).count();
        if missing > 0 {
            let (method, total) = (method.name().to_owned(), tokens.y.len());
            return Err(Wrong::NotWritten { method, projection, missing, total });
        }
        let rows = sampled_rows(tokens.x.nrows());
        let Some((expected, found)) = sample(method, linear, rank, tokens, &rows)? else { continue };
        worst = worst.max(Deviation::of(&expected, &found));
        if let Err(mismatch) = reference::check(&expected, found.view()) {
            first.get_or_insert((projection, rows, Box::new(mismatch)));
        }
    }
    let Some((projection, rows, mismatch)) = first else { return Ok(()) };
    Err(Wrong::Mismatch { method: method.name().to_owned(), projection, rows, mismatch, deviation: worst })
}

/// First, last, and others drawn at random; in order.
fn sampled_rows(m: usize) -> Vec<usize> {
    if m <= ROWS {
        return (0..m).collect();
    }
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(m as u64);
    let mut rows: Vec<usize> =
        seq::index::sample(&mut rng, m - 2, ROWS - 2).into_iter().map(|i| i + 1).collect();
    rows.extend([0, m - 1]);
    rows.sort_unstable();
    rows
}

/// What the reference has in those rows, and what was found there.
fn sample<L>(
    method: &(dyn Method + '_),
    linear: &Linear<L>,
    rank: usize,
    tokens: &Tokens,
    rows: &[usize],
) -> Result<Option<(Expected, Array2<f16>)>, fused_lora::Error> {
    let Some(strategy) = method.computes() else { return Ok(None) };
    let x = tokens.x.select(Axis(0), rows);
    let inputs = Inputs {
        x: x.view(),
        w: linear.w.view(),
        adapter: Some(linear.adapter(rank).view()),
        epilogue: Epilogue::NONE,
    };
    let found = tokens.output(method.layout()).select(Axis(0), rows);
    Ok(Some((reference::forward(&inputs, strategy)?, found)))
}

impl Deviation {
    fn of(expected: &Expected, found: &Array2<f16>) -> Deviation {
        let triples =
            || expected.y.iter().zip(&expected.tolerance).zip(found).map(|((y, t), f)| (y, t, f.to_f64()));
        let element =
            triples().map(|(y, tolerance, found)| (found - y).abs() / tolerance).fold(0.0, f64::max);
        let error = triples().map(|(y, _, found)| (found - y).powi(2)).sum::<f64>().sqrt();
        let norm = triples().map(|(y, ..)| y * y).sum::<f64>().sqrt();
        // 2u = 2⁻¹⁰
        Deviation { element, norm: if error == 0.0 { 0.0 } else { error / (norm / 1024.0) } }
    }

    fn max(self, other: Deviation) -> Deviation {
        Deviation { element: self.element.max(other.element), norm: self.norm.max(other.norm) }
    }
}

#[cfg(test)]
mod tests {
    use fused_lora::Strategy;
    use fused_lora::cpu::Simd;
    use fused_lora_records::Workload;

    use super::*;
    use crate::method::Ours;
    use crate::model::Model;
    use crate::normals::Normals;
    use crate::tokens;

    #[test]
    fn rows_hold_both_ends_and_repeat_none() {
        assert_eq!(sampled_rows(3), [0, 1, 2]);
        assert_eq!(sampled_rows(16).len(), 16);
        for m in [17, 18, 128, 16_384] {
            let rows = sampled_rows(m);
            assert_eq!(rows.len(), ROWS, "{m}");
            assert_eq!((rows[0], rows[ROWS - 1]), (0, m - 1));
            assert!(rows.is_sorted_by(|a, b| a < b), "{m}: {rows:?}");
        }
    }

    /// A right method whose output is then spoilt.
    struct Spoilt<F> {
        ours: Ours,
        spoil: F,
    }

    impl<F: FnMut(&mut [Tokens])> Method for Spoilt<F> {
        fn name(&self) -> &str {
            "spoilt"
        }

        fn computes(&self) -> Option<Strategy> {
            self.ours.computes()
        }

        fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
            self.ours.call(slot, tokens)?;
            (self.spoil)(tokens);
            Ok(())
        }
    }

    fn check_spoilt(strategy: Strategy, spoil: impl FnMut(&mut [Tokens])) -> Result<(), Wrong> {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        let mut model = Model::new(workload, Simd::detect().unwrap());
        model.ensure(1, 10).unwrap();
        let mut tokens = tokens::slot(workload, 40, &mut Normals::new(3));
        let ours = Ours::new("ours", strategy, model.slots(), 10);
        check(&mut Spoilt { ours, spoil }, &model.slots()[0], 10, &mut tokens)
    }

    #[test]
    fn right_outputs_pass() {
        for strategy in Strategy::ALL {
            check_spoilt(strategy, |_| ()).unwrap_or_else(|error| panic!("{strategy}: {error}"));
        }
    }

    #[test]
    fn one_wrong_element_in_the_last_row_fails() {
        let spoil = |tokens: &mut [Tokens]| {
            let y = tokens[0].y.last_mut().unwrap();
            *y = f16::from_f32(y.to_f32() + 0.1);
        };
        let error = check_spoilt(Strategy::Fused, spoil).unwrap_err();
        let Wrong::Mismatch { mismatch, rows, deviation, .. } = &error else { panic!("{error}") };
        let Mismatch::Element { row, column, bad, .. } = &**mismatch else { panic!("{error}") };
        assert_eq!((rows[*row], *column, *bad), (39, 1023, 1));
        assert!(deviation.element > 1.0 && deviation.norm < 1.0, "{deviation:?}");
        assert!(error.to_string().contains("spoilt"), "{error}");
    }

    /// The rows that are not sampled are looked at too, if only for whether they were written.
    #[test]
    fn an_element_that_is_not_written_fails_wherever_it_is() {
        let unsampled = (0..40).find(|row| !sampled_rows(40).contains(row)).unwrap();
        let error =
            check_spoilt(Strategy::Base, |tokens| tokens[0].y[unsampled * 1024 + 7] = f16::NAN).unwrap_err();
        assert!(matches!(error, Wrong::NotWritten { missing: 1, total: 40_960, .. }), "{error}");
    }

    #[test]
    fn the_base_is_not_taken_for_the_whole() {
        let workload = Workload::by_name("linear-1024x1024").unwrap();
        let mut model = Model::new(workload, Simd::detect().unwrap());
        model.ensure(1, 10).unwrap();
        let mut tokens = tokens::slot(workload, 40, &mut Normals::new(3));
        /// Says that it computes all of it.
        struct Lazy(Ours);
        impl Method for Lazy {
            fn name(&self) -> &str {
                "lazy"
            }
            fn computes(&self) -> Option<Strategy> {
                Some(Strategy::Fused)
            }
            fn call(&mut self, slot: usize, tokens: &mut [Tokens]) -> anyhow::Result<()> {
                self.0.call(slot, tokens)
            }
        }
        let mut lazy = Lazy(Ours::new("base", Strategy::Base, model.slots(), 10));
        let error = check(&mut lazy, &model.slots()[0], 10, &mut tokens).unwrap_err();
        let Wrong::Mismatch { deviation, .. } = &error else { panic!("{error}") };
        assert!(deviation.element > 10.0 && deviation.norm > 10.0, "{deviation:?}");
    }
}

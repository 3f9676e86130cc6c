//! No output, no time: every row of y is compared with the reference, right after it was timed.

use std::collections::HashMap;

use half::f16;
use ndarray::{Array2, ArrayView2, Axis};

use super::reference;
use super::sequences::{DISTINCT, Sequences};
use super::size::Size;
use super::variant::Variant;
use super::weights::Weights;

/// ‖y − reference‖ / ‖reference‖ of one layer, as `crates/transformer/tests/pytorch.rs` has it: one rounding to f16 is 2.8 · 10⁻⁴ of
/// that, and y has more than one behind it.
const TOLERANCE: f64 = 7e-4;
/// |y − reference| of an element in units of the root mean square, from the same place.
const ELEMENT_TOLERANCE: f64 = 5e-3;

/// How far a y is off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Deviation {
    /// ‖y − reference‖ / ‖reference‖
    pub norm: f64,
    /// The largest |y − reference|, in units of the reference's root mean square.
    pub element: f64,
    /// The row with the largest.
    pub row: usize,
}

/// A y that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error(
    "{method} at {size}/r{rank} is wrong: ‖y − reference‖ is {:.1e} of the norm (allowed: {allowed_norm:.1e}), the worst \
     element, in row {}, is off by {:.1e} of the root mean square (allowed: {allowed_element:.1e})",
    .deviation.norm,
    .deviation.row,
    .deviation.element
)]
pub struct Wrong {
    /// The method's name in the records.
    pub method: String,
    /// The size.
    pub size: Size,
    /// The rank.
    pub rank: usize,
    /// How far it is off.
    pub deviation: Deviation,
    /// What would do.
    pub allowed_norm: f64,
    /// What would do.
    pub allowed_element: f64,
}

/// What each variant's y should be for the two sequences, at one `seq_len` at a time.
pub struct References {
    seq_len: usize,
    /// By [`Variant::of_weights`].
    expected: HashMap<Variant, [Array2<f32>; DISTINCT]>,
    layers: usize,
}

impl References {
    /// None yet, of a model of so many layers.
    #[must_use]
    pub fn new(layers: usize) -> References {
        References { seq_len: 0, expected: HashMap::new(), layers }
    }

    /// Computes what is missing of these variants at that `seq_len`, and forgets other lengths. Returns how many it computed.
    pub fn ensure(
        &mut self,
        seq_len: usize,
        variants: impl IntoIterator<Item = Variant>,
        weights: &Weights,
        sequences: &Sequences,
    ) -> usize {
        if self.seq_len != seq_len {
            self.expected.clear();
            self.seq_len = seq_len;
        }
        let before = self.expected.len();
        for variant in variants {
            let key = variant.of_weights();
            self.expected.entry(key).or_insert_with(|| reference::forward(weights, key, sequences, seq_len));
        }
        self.expected.len() - before
    }

    /// Compares a y, [M, d], of a size with that `seq_len`. `name` is that of the error.
    ///
    /// # Errors
    ///
    /// If y is off by more than is allowed: a NaN is.
    ///
    /// # Panics
    ///
    /// If there is no reference for the variant, or y has another shape.
    pub fn check(
        &self,
        name: &str,
        size: Size,
        variant: Variant,
        y: ArrayView2<'_, f16>,
    ) -> Result<(), Wrong> {
        self.check_with(name, size, variant, y, f16::to_f64)
    }

    /// The same for a y in f32, which another library has computed.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    ///
    /// # Panics
    ///
    /// As [`check`](Self::check).
    pub fn check_f32(
        &self,
        name: &str,
        size: Size,
        variant: Variant,
        y: ArrayView2<'_, f32>,
    ) -> Result<(), Wrong> {
        self.check_with(name, size, variant, y, f64::from)
    }

    fn check_with<T: Copy>(
        &self,
        name: &str,
        size: Size,
        variant: Variant,
        y: ArrayView2<'_, T>,
        widen: impl Fn(T) -> f64,
    ) -> Result<(), Wrong> {
        let expected = &self.expected[&variant.of_weights()];
        let deviation = deviation(y, expected, size.seq_len, widen);
        // The errors of layers, independent of each other, add up like a random walk.
        let growth = (self.layers as f64).sqrt();
        let (allowed_norm, allowed_element) = (TOLERANCE * growth, ELEMENT_TOLERANCE * growth);
        // Not `>`: a NaN is wrong.
        if deviation.norm <= allowed_norm && deviation.element <= allowed_element {
            return Ok(());
        }
        Err(Wrong {
            method: name.to_owned(),
            size,
            rank: variant.rank,
            deviation,
            allowed_norm,
            allowed_element,
        })
    }
}

fn deviation<T: Copy>(
    y: ArrayView2<'_, T>,
    expected: &[Array2<f32>; DISTINCT],
    seq_len: usize,
    widen: impl Fn(T) -> f64,
) -> Deviation {
    let (mut error, mut norm) = (0.0, 0.0);
    let (mut largest, mut at) = (0.0, 0);
    for (sequence, rows) in y.axis_chunks_iter(Axis(0), seq_len).enumerate() {
        let expected = &expected[sequence % DISTINCT];
        assert_eq!(rows.dim(), expected.dim(), "y is no batch of these sequences");
        for (token, (row, expected)) in rows.outer_iter().zip(expected.outer_iter()).enumerate() {
            for (&y, &expected) in row.iter().zip(expected) {
                let expected = f64::from(expected);
                let off = (widen(y) - expected).abs();
                error += off * off;
                norm += expected * expected;
                // Once it is NaN it stays so.
                if off > largest || off.is_nan() {
                    (largest, at) = (off, sequence * seq_len + token);
                }
            }
        }
    }
    let root_mean_square = (norm / y.len() as f64).sqrt();
    Deviation { norm: (error / norm).sqrt(), element: largest / root_mean_square, row: at }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fused_lora::cpu::Simd;
    use fused_lora_transformer::{Config, Method, Targets};

    use super::*;
    use crate::layer::backend::Backend;
    use crate::layer::cpu::Cpu;
    use crate::settings::Cache;

    const CONFIG: Config = Config { d: 64, heads: 4, mlp: 128, layers: 1 };
    const SIZE: Size = Size { seq_len: 9, batch: 3 };

    fn variants(rank: usize) -> Vec<Variant> {
        let mut variants = vec![Variant::NONE];
        for targets in Targets::ALL {
            variants.extend(Method::ALL[1..].iter().map(|&method| Variant { method, targets, rank }));
        }
        variants
    }

    /// Each variant's y, and the references of all.
    fn outputs(config: Config, rank: usize) -> (Vec<(Variant, Array2<f16>)>, References) {
        let variants = variants(rank);
        let mut weights = Weights::new(config).unwrap();
        variants.iter().for_each(|&variant| weights.ensure(variant).unwrap());
        let sequences = Sequences::new(12, config.d);
        let mut references = References::new(config.layers);
        references.ensure(SIZE.seq_len, variants.iter().copied(), &weights, &sequences);
        let mut cpu = Cpu::new(Simd::detect().unwrap(), Cache::Cold, 0);
        cpu.furnish(SIZE, &variants, &weights, &sequences).unwrap();
        let mut outputs = Vec::new();
        for (place, &variant) in variants.iter().enumerate() {
            let time = cpu.call(place).unwrap();
            assert!(time > Duration::ZERO);
            cpu.inspect(&mut |y| {
                outputs.push((variant, y.to_owned()));
                Ok(())
            })
            .unwrap();
        }
        (outputs, references)
    }

    #[test]
    fn every_method_is_right() {
        let small = |layers| (Config { layers, ..CONFIG }, 7);
        for (config, rank) in [small(1), small(4), (Config::GPT2_MEDIUM_LAYER, 250)] {
            let (outputs, references) = outputs(config, rank);
            for (variant, y) in outputs {
                references.check(&variant.name(), SIZE, variant, y.view()).unwrap_or_else(|e| panic!("{e}"));
            }
        }
    }

    /// Taken for any other, a method is wrong: at the real sizes and the lowest rank, too, an adapter is seen.
    #[test]
    fn no_method_passes_for_another() {
        let (outputs, references) = outputs(Config::GPT2_MEDIUM_LAYER, 10);
        for (variant, y) in &outputs {
            for (other, _) in &outputs {
                let same = variant.of_weights() == other.of_weights()
                    || (!variant.is_lora() && variant.method == other.method);
                let found = references.check("m", SIZE, *other, y.view());
                assert_eq!(found.is_ok(), same, "{variant:?} taken for {other:?}");
            }
        }
    }

    #[test]
    fn one_wrong_row_is_seen_and_named() {
        let (mut outputs, references) = outputs(CONFIG, 7);
        let (variant, y) = outputs.pop().unwrap();
        let spoilt = |row: usize, value: fn(f16) -> f16| {
            let mut y = y.clone();
            y[[row, 5]] = value(y[[row, 5]]);
            references.check("lora-fused-qv", SIZE, variant, y.view()).unwrap_err()
        };
        let text = spoilt(26, |y| y + f16::from_f32(0.02)).to_string();
        for part in ["lora-fused-qv at seq9/batch3/r7", "in row 26"] {
            assert!(text.contains(part), "{text}");
        }
        let wrong = spoilt(3, |_| f16::NAN);
        assert!(wrong.deviation.norm.is_nan() && wrong.deviation.row == 3, "{wrong}");
        // Rows of the two sequences in each other's place.
        let swapped =
            ndarray::concatenate![Axis(0), y.slice(ndarray::s![9.., ..]), y.slice(ndarray::s![..9, ..])];
        assert!(references.check("m", SIZE, variant, swapped.view()).is_err());
    }

    #[test]
    fn references_are_computed_once_a_length() {
        let mut weights = Weights::new(CONFIG).unwrap();
        variants(7).iter().for_each(|&variant| weights.ensure(variant).unwrap());
        let sequences = Sequences::new(12, CONFIG.d);
        let mut references = References::new(1);
        let mut computed = |seq_len| references.ensure(seq_len, variants(7), &weights, &sequences);
        // none, adapter-h, adapter-l, LoRA on all, LoRA on q and v.
        assert_eq!([computed(3), computed(3), computed(4)], [5, 0, 5]);
    }
}

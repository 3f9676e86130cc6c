//! Random operands in awkward memory: rows apart, bases unaligned, gaps watched.

#![allow(dead_code, reason = "each test file uses a part of it")]

use fused_lora::Element;
use half::f16;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, ShapeBuilder};
use rand::{SeedableRng, rngs::SmallRng};
use rand_distr::{Distribution, Normal};

pub(crate) fn rng(seed: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed)
}

/// Normally distributed.
pub(crate) fn normal<T: Element>(
    rng: &mut SmallRng,
    rows: usize,
    columns: usize,
    deviation: f32,
) -> Array2<T> {
    let distribution = Normal::new(0.0, deviation).unwrap();
    Array2::from_shape_simple_fn((rows, columns), || T::from_f32(distribution.sample(rng)))
}

/// One product's operands, scaled like a trained layer's: x ~ 1, x Wᵀ ~ 1, h ~ 1, h Bᵀ ~ 1.
#[derive(Clone)]
pub(crate) struct Operands<T = f16> {
    pub(crate) x: Array2<T>,
    pub(crate) w: Array2<T>,
    pub(crate) a: Array2<T>,
    pub(crate) b: Array2<T>,
    pub(crate) bias: Array1<T>,
    pub(crate) scale: f32,
}

impl<T: Element> Operands<T> {
    pub(crate) fn random(seed: u64, m: usize, n: usize, k: usize, rank: usize) -> Self {
        let mut rng = rng(seed);
        let scale = 1.5;
        let unit = |sum: usize| 1.0 / (sum.max(1) as f32).sqrt();
        Self {
            x: normal(&mut rng, m, k, 1.0),
            w: normal(&mut rng, n, k, unit(k)),
            a: normal(&mut rng, rank, k, unit(k) / scale),
            b: normal(&mut rng, n, rank, unit(rank)),
            bias: normal(&mut rng, 1, n, 1.0).row(0).to_owned(),
            scale,
        }
    }
}

/// A matrix in a larger piece of memory: `gap` elements between rows, `offset` before the first. What is not
/// the matrix holds a NaN that no operand has.
pub(crate) struct Strided<T = f16> {
    pub(crate) memory: Vec<T>,
    rows: usize,
    columns: usize,
    ld: usize,
    offset: usize,
}

/// In gaps, and in what a call has to overwrite: a NaN with a payload of its own.
pub(crate) fn poison<T: Element>() -> T {
    T::from_f32(f32::from_bits(0x7fda_0000))
}

pub(crate) fn is_poison<T: Element>(value: T) -> bool {
    value.to_f32().to_bits() == poison::<T>().to_f32().to_bits()
}

impl<T: Element> Strided<T> {
    pub(crate) fn poisoned(rows: usize, columns: usize, gap: usize, offset: usize) -> Self {
        let ld = columns + gap;
        // A row at least: ndarray wants memory for a row of none.
        Self { memory: vec![poison(); offset + rows.max(1) * ld], rows, columns, ld, offset }
    }

    pub(crate) fn copy_of(matrix: &Array2<T>, gap: usize, offset: usize) -> Self {
        let mut strided = Self::poisoned(matrix.nrows(), matrix.ncols(), gap, offset);
        strided.view_mut().assign(matrix);
        strided
    }

    pub(crate) fn view(&self) -> ArrayView2<'_, T> {
        let shape = (self.rows, self.columns).strides((self.ld, 1));
        ArrayView2::from_shape(shape, &self.memory[self.offset..]).unwrap()
    }

    pub(crate) fn view_mut(&mut self) -> ArrayViewMut2<'_, T> {
        let shape = (self.rows, self.columns).strides((self.ld, 1));
        ArrayViewMut2::from_shape(shape, &mut self.memory[self.offset..]).unwrap()
    }

    /// Is everything but the matrix as it was made?
    pub(crate) fn gaps_are_untouched(&self) -> bool {
        self.memory.iter().enumerate().all(|(i, value)| {
            let inside = i >= self.offset && (i - self.offset) % self.ld < self.columns;
            inside || is_poison(*value)
        })
    }
}

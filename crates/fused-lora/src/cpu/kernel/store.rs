//! The way of a tile's sums into y, where there is more to do than the micro-kernel's own store does.

use super::{Finishing, Job, Output, Storage, Vector, exp::gelu_tanh};
use crate::epilogue::Activation;

/// `y = round( activation(scale · sums + bias) + residuals )`, one tile.
pub(crate) struct Store<'a, T> {
    pub(crate) rows: usize,
    /// In a row of the tile.
    pub(crate) vectors: usize,
    /// `[rows][vectors · LANES]`, as [`Finish::Partial`](super::Finish::Partial) leaves it.
    pub(crate) sums: *const f32,
    pub(crate) output: &'a Output<T>,
    pub(crate) finishing: &'a Finishing<T>,
}

impl<X: Vector, T: Storage> Job<X> for Store<'_, T> {
    type Output = ();

    /// # Safety
    ///
    /// Sums, bias, y and residuals have these rows and columns, as their fields say. A residual may be y
    /// itself; beyond that nobody else touches y.
    #[inline(always)]
    unsafe fn run(self) {
        // One copy of the loops for each, so that nothing is decided in them.
        // SAFETY: the caller's contract.
        unsafe {
            match self.finishing.activation {
                None => self.tile::<X>(|sum| sum),
                Some(Activation::GeluTanh) => self.tile::<X>(|sum| gelu_tanh(sum)),
            }
        }
    }
}

impl<T: Storage> Store<'_, T> {
    #[inline(always)]
    unsafe fn tile<X: Vector>(&self, activation: impl Fn(X) -> X) {
        let Output { y, ld, columns, scale, bias } = *self.output;
        // SAFETY: `run`'s contract. Vectors begin before `columns`, and where one ends beyond, only what
        // exists is touched.
        unsafe {
            let scale = X::splat(scale);
            for v in 0..self.vectors {
                let column = v * X::LANES;
                let exist = columns.saturating_sub(column).min(X::LANES);
                let bias = if bias.is_null() { X::splat(0.0) } else { X::load(bias.add(column)) };
                for r in 0..self.rows {
                    let sum = X::load(self.sums.add((r * self.vectors + v) * X::LANES));
                    let mut value = activation(sum.mul_add(scale, bias));
                    for residual in self.finishing.residuals {
                        if !residual.is_none() {
                            let from = residual.at(r, column).ptr;
                            value = value.add(T::load_first(from, exist));
                        }
                    }
                    let to = y.offset(r as isize * ld).add(column);
                    T::store_first(value, to, exist);
                }
            }
        }
    }
}

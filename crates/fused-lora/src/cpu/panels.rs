use std::ops::Range;

use ndarray::ArrayView2;
use rayon::prelude::*;

use super::{
    buffer::{Buffer, Plain},
    kernel::{MicroKernel, Storage, Unit},
};

/// A weight `[rows, k]`, packed as the micro-kernel streams it.
///
/// NR = NV · LANES rows of the weight, columns of the product, make a panel `[step][NR]`. The last panel is
/// as many vectors wide as the remaining rows need; its places beyond them are zero, and so are those beyond
/// k.
pub(crate) struct Panels {
    data: Buffer,
    rows: usize,
    k: usize,
    /// Of K, padded to whole granules.
    steps: usize,
    /// The most columns of a panel.
    nr: usize,
    lanes: usize,
    /// Bytes of a unit.
    unit: usize,
}

/// A run of steps of a panel, as memory to be fetched.
#[derive(Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) from: *const u8,
    pub(crate) len: usize,
}

impl Panels {
    /// Packs `weight: [rows, k]`, any strides, for the micro-kernel M, on the threads of the current rayon
    /// pool.
    pub(crate) fn pack<M: MicroKernel, U: Unit<T>, T: Storage>(weight: ArrayView2<'_, T>) -> Self {
        const { assert!(U::DEPTH == M::DEPTH) };
        let (rows, k) = weight.dim();
        let (nr, steps) = (M::NV * M::LANES, steps::<M>(k));
        let mut data = Buffer::zeroed_in_chunk::<U>(&[rows.next_multiple_of(M::LANES), steps]);
        let panels =
            Self { data: Buffer::default(), rows, k, steps, nr, lanes: M::LANES, unit: size_of::<U>() };
        if k > 0 {
            let slices = data.as_mut_slice::<U>().par_chunks_mut(nr * steps).take(panels.count());
            slices.enumerate().for_each(|(p, panel)| {
                let width = panels.vectors(p) * M::LANES;
                for (j, row) in weight.outer_iter().skip(p * nr).take(nr).enumerate() {
                    for step in 0..k.div_ceil(U::DEPTH) {
                        let element = |i| row.get(step * U::DEPTH + i).copied().unwrap_or_default();
                        panel[step * width + j] = U::gather(element);
                    }
                }
            });
        }
        Self { data, ..panels }
    }

    /// How many panels there are.
    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(self.nr)
    }

    /// Vectors in a row of panel `p`.
    pub(crate) fn vectors(&self, p: usize) -> usize {
        self.columns(p).div_ceil(self.lanes)
    }

    /// Columns of panel `p` that exist.
    pub(crate) fn columns(&self, p: usize) -> usize {
        (self.rows - p * self.nr).min(self.nr)
    }

    /// The first column of panel `p`.
    pub(crate) fn first_column(&self, p: usize) -> usize {
        p * self.nr
    }

    /// These steps of panel `p`; none if there is no such panel.
    pub(crate) fn bytes(&self, p: usize, steps: Range<usize>) -> Option<Bytes> {
        (p < self.count()).then(|| {
            let width = self.vectors(p) * self.lanes * self.unit;
            let before = p * self.nr * self.steps * self.unit + steps.start * width;
            Bytes { from: self.data.as_ptr::<u8>().wrapping_add(before), len: steps.len() * width }
        })
    }

    /// Step `step` of panel `p`, whose units are U.
    pub(crate) fn at<U: Plain>(&self, p: usize, step: usize) -> *const U {
        debug_assert_eq!(self.unit, size_of::<U>());
        let offset = p * self.nr * self.steps + step * self.vectors(p) * self.lanes;
        assert!(p < self.count() && step < self.steps && offset < self.data.len::<U>());
        // SAFETY: just checked.
        unsafe { self.data.as_ptr::<U>().add(offset) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }

    /// Steps of K, padded.
    pub(crate) fn steps(&self) -> usize {
        self.steps
    }
}

/// Steps of the micro-kernel M over k elements, padded to whole granules.
pub(crate) fn steps<M: MicroKernel>(k: usize) -> usize {
    k.next_multiple_of(M::K_GRANULE) / M::DEPTH
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};
    use ndarray::Array2;

    use super::*;
    use crate::{
        cpu::{Simd, kernel::levels::Level, simd::dispatch},
        element::Element,
    };

    #[test]
    fn a_panel_holds_columns_step_by_step_and_zeros_beyond() {
        for simd in Simd::available() {
            dispatch!(simd, f16, f16 => check_layout(simd));
            dispatch!(simd, bf16, bf16 => check_layout(simd));
            dispatch!(simd, f32, f32 => check_layout(simd));
        }
    }

    fn check_layout<L: Level<In: Element>>(simd: Simd)
    where
        <L::Main as MicroKernel>::W: Unit<L::In> + PartialEq + std::fmt::Debug,
    {
        let (nr, lanes, depth) = (L::Main::NV * L::Main::LANES, L::Main::LANES, L::Main::DEPTH);
        for rows in [1, nr - 1, nr, nr + 1, 2 * nr + lanes + 1] {
            for columns in [3, 64, 65] {
                let weight = Array2::from_shape_fn((rows, columns), |(i, k)| {
                    L::In::from_f32((1 + (i * 10 + k) % 200) as f32)
                });
                let panels = L::pack_weight(weight.view());
                assert_eq!(panels.steps(), columns.next_multiple_of(L::Main::K_GRANULE) / depth);
                let mut seen = 0;
                for p in 0..panels.count() {
                    let (width, exist) = (panels.vectors(p) * lanes, panels.columns(p));
                    assert!(width - exist < lanes && panels.first_column(p) == seen);
                    for (step, j) in (0..panels.steps()).flat_map(|step| (0..width).map(move |j| (step, j))) {
                        // SAFETY: column j of a step of a panel that is that wide.
                        let unit = unsafe { *panels.at::<<L::Main as MicroKernel>::W>(p, step).add(j) };
                        let element = |i: usize| {
                            weight
                                .get((seen + j, step * depth + i))
                                .copied()
                                .filter(|_| j < exist)
                                .unwrap_or_default()
                        };
                        assert_eq!(
                            unit,
                            Unit::gather(element),
                            "{simd} {rows} rows: panel {p} step {step} column {j}"
                        );
                    }
                    seen += exist;
                }
                assert_eq!(seen, rows);
            }
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn a_step_beyond_the_last_is_refused() {
        fn at<L: Level>() {
            L::pack_weight(Array2::default((5, 3)).view()).at::<f32>(0, 3);
        }
        dispatch!(Simd::Portable, f32, f32 => at());
    }
}

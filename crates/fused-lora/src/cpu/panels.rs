use half::f16;
use ndarray::ArrayView2;
use rayon::prelude::*;

use super::{
    buffer::{Buffer, Plain},
    kernel::MicroKernel,
};

/// A weight `[rows, k]`, packed as the micro-kernel streams it.
///
/// NR = NV · LANES rows of the weight, columns of the product, make a panel `[k][NR]`. The last panel is as
/// many vectors wide as the remaining rows need; its places beyond them are zero.
pub(crate) struct Panels {
    data: Buffer,
    rows: usize,
    k: usize,
}

impl Panels {
    /// Packs `weight: [rows, k]`, any strides, on the threads of the current rayon pool.
    pub(crate) fn pack<K: MicroKernel<Element: Plain>>(weight: ArrayView2<'_, f16>) -> Self {
        let (rows, k) = weight.dim();
        let nr = Self::nr::<K>();
        let mut data = Buffer::zeroed::<K::Element>(&[rows.next_multiple_of(K::LANES), k]);
        let panels = Self { data: Buffer::default(), rows, k };
        if k > 0 {
            let slices = data.as_mut_slice::<K::Element>().par_chunks_mut(nr * k).take(panels.count::<K>());
            slices.enumerate().for_each(|(p, panel)| {
                let width = panels.vectors::<K>(p) * K::LANES;
                for (j, row) in weight.outer_iter().skip(p * nr).take(nr).enumerate() {
                    for (i, &value) in row.iter().enumerate() {
                        panel[i * width + j] = value.into();
                    }
                }
            });
        }
        Self { data, ..panels }
    }

    /// The most columns of a panel.
    pub(crate) const fn nr<K: MicroKernel>() -> usize {
        K::NV * K::LANES
    }

    /// How many panels there are.
    pub(crate) fn count<K: MicroKernel>(&self) -> usize {
        self.rows.div_ceil(Self::nr::<K>())
    }

    /// Vectors in a row of panel `p`.
    pub(crate) fn vectors<K: MicroKernel>(&self, p: usize) -> usize {
        self.columns::<K>(p).div_ceil(K::LANES)
    }

    /// Columns of panel `p` that exist.
    pub(crate) fn columns<K: MicroKernel>(&self, p: usize) -> usize {
        (self.rows - p * Self::nr::<K>()).min(Self::nr::<K>())
    }

    /// Step `k0` of panel `p`.
    pub(crate) fn at<K: MicroKernel<Element: Plain>>(&self, p: usize, k0: usize) -> *const K::Element {
        let offset = p * Self::nr::<K>() * self.k + k0 * self.vectors::<K>(p) * K::LANES;
        assert!(p < self.count::<K>() && k0 < self.k && offset < self.data.len::<K::Element>());
        // SAFETY: just checked.
        unsafe { self.data.as_ptr::<K::Element>().add(offset) }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn k(&self) -> usize {
        self.k
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::cpu::{Simd, simd::dispatch};

    #[test]
    fn a_panel_holds_columns_step_by_step_and_zeros_beyond() {
        for simd in Simd::available() {
            dispatch!(simd, Kernel => check_layout::<Kernel>());
        }
    }

    fn check_layout<K: MicroKernel<Element: Plain + Into<f32>>>() {
        let nr = Panels::nr::<K>();
        for rows in [1, nr - 1, nr, nr + 1, 2 * nr + K::LANES + 1] {
            let weight = Array2::from_shape_fn((rows, 3), |(i, k)| f16::from_f32((1 + i * 10 + k) as f32));
            let panels = Panels::pack::<K>(weight.view());
            let mut seen = 0;
            for p in 0..panels.count::<K>() {
                let (width, columns) = (panels.vectors::<K>(p) * K::LANES, panels.columns::<K>(p));
                assert!(width - columns < K::LANES);
                for (k, j) in (0..3).flat_map(|k| (0..width).map(move |j| (k, j))) {
                    // SAFETY: column j of step k of a panel that is that wide.
                    let value: f32 = unsafe { *panels.at::<K>(p, k).add(j) }.into();
                    let expected = if j < columns { weight[[p * nr + j, k]].to_f32() } else { 0.0 };
                    assert_eq!(value, expected, "NR {nr}, {rows} rows: panel {p} step {k} column {j}");
                }
                seen += columns;
            }
            assert_eq!(seen, rows);
        }
    }

    #[test]
    #[should_panic(expected = "assertion failed")]
    fn a_step_beyond_the_last_is_refused() {
        dispatch!(Simd::Portable, Kernel => {
            Panels::pack::<Kernel>(Array2::zeros((5, 3)).view()).at::<Kernel>(0, 3);
        });
    }
}

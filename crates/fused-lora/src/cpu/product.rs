//! One product, and which loops run it.
//!
//! ```text
//! by rows, where there are enough of them:        by columns, where x is a few rows:
//!   parallel over blocks of MC rows:                parallel over blocks of rows:          pack x, all of K
//!     for each K block:                             parallel over panels of A × blocks:    h
//!       pack x                                      pack h
//!       sweep the panels of A   → h, at the end     parallel over panels of W × blocks:    y
//!       sweep the panels of W   → y, at the end
//! ```
//!
//! A *sweep* takes a packed block of rows through panels of a weight, tile by tile. In the last K block of W
//! each tile's K loop runs on over h and B: that is the whole of the fusion.
//!
//! By rows nothing is shared but W, A and B, there is one fork and one join, and x is packed while it is in
//! cache. By columns each panel is read by few threads, at the price of a join after each line.

use half::f16;

use super::{
    adapter::Packed,
    buffer::{Buffer, Plain},
    kernel::{Finishing, Input, MicroKernel},
    panels::Panels,
    parallel::in_pool,
    sweep::Target,
    view::{Rows, RowsMut},
    workspace::{Slot, Workspace},
};

/// With fewer rows than this for each thread, threads share rows and split columns.
const MIN_ROWS_PER_THREAD: usize = 32;
/// Multiply-adds below which waking another thread costs more than it brings: some 10 µs of one.
const MIN_PARALLEL_WORK: usize = 1 << 19;

/// `y = f16( activation(scale · (addend + x Wᵀ + h Bᵀ) + bias) + residuals )`, all in one pass over x and y.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub(crate) x: Rows,
    pub(crate) weight: &'a Panels,
    pub(crate) lora: Option<Lora<'a>>,
    /// `[x.rows, weight.rows]`
    pub(crate) y: RowsMut,
    pub(crate) scale: f32,
    pub(crate) bias: Option<&'a Buffer>,
    /// Where the sums start, `[x.rows, weight.rows]`; asks for scale 1. May be y itself.
    pub(crate) addend: Input,
    /// Residuals are `[x.rows, weight.rows]`, and may be y itself.
    pub(crate) finishing: Finishing,
}

/// `h = f16( scale · x Aᵀ )` and `B`.
#[derive(Clone, Copy)]
pub(crate) struct Lora<'a> {
    pub(crate) a: &'a Panels,
    pub(crate) b: &'a Panels,
    pub(crate) scale: f32,
}

impl Product<'_> {
    /// # Safety
    ///
    /// - x can be read, y can be read and written, and nobody else touches y until this returns.
    /// - x has as many columns as the weight has steps, y as many rows as x and as many columns as the weight
    ///   has rows.
    /// - Addend and residuals are none, or can be read and have y's rows and columns; what they share with y
    ///   lies in the same place in both.
    /// - The bias is as long as the weight has rows, padded to whole vectors; A and B fit x and y, and each
    ///   other.
    /// - All of it is packed for K, and this CPU has K's instructions.
    pub(crate) unsafe fn run<K: MicroKernel<Element: Plain>>(&self, workspace: &mut Workspace) {
        let work = self.x.rows.saturating_mul(self.x.columns).saturating_mul(self.weight.rows());
        // SAFETY: the caller's contract is the same.
        let mut run_on = |threads| unsafe { self.run_on::<K>(threads, workspace) };
        if work < MIN_PARALLEL_WORK {
            run_on(1);
        } else {
            in_pool(|| run_on(rayon::current_num_threads()));
        }
    }

    /// The same as three separate products, as PEFT runs them. Activation and residuals belong to the last
    /// one.
    ///
    /// # Safety
    ///
    /// As [`run`](Self::run), and the adapter's A and B fit x and y.
    pub(crate) unsafe fn run_unfused<K: MicroKernel<Element: Plain>>(
        &self,
        adapter: &Packed,
        workspace: &mut Workspace,
    ) {
        let (m, rank) = (self.x.rows, adapter.a.rows());
        let mut h = std::mem::take(&mut workspace.h);
        h.reserve::<f16>(&[m, rank]);
        let (ptr, ld) = (h.as_mut_ptr(), rank as isize);
        // The base's y lies in y, unless that still holds a residual.
        let mut buffer = std::mem::take(&mut workspace.base);
        let y_is_residual =
            self.finishing.residuals.iter().any(|residual| residual.ptr == self.y.ptr.cast_const());
        let base_y = if y_is_residual {
            buffer.reserve::<f16>(&[m, self.weight.rows()]);
            RowsMut { ptr: buffer.as_mut_ptr(), ld: self.weight.rows() as isize }
        } else {
            self.y
        };
        let base = Product { y: base_y, finishing: Finishing::NONE, ..*self };
        let shrink = Product {
            weight: &adapter.a,
            y: RowsMut { ptr, ld },
            scale: adapter.scale,
            bias: None,
            addend: Input::NONE,
            finishing: Finishing::NONE,
            ..*self
        };
        let h_rows = Rows { ptr, ld, rows: m, columns: rank };
        let addend = Input { ptr: base_y.ptr, ld: base_y.ld };
        let expand = Product { x: h_rows, weight: &adapter.b, bias: None, addend, ..*self };
        for product in [&base, &shrink, &expand] {
            // SAFETY: the caller's contract; h has m rows of `rank`, the base's y is y or has its shape, and
            // both are this call's own.
            unsafe { product.run::<K>(workspace) };
        }
        workspace.h = h;
        workspace.base = buffer;
    }

    /// # Safety
    ///
    /// As [`run`](Self::run).
    unsafe fn run_on<K: MicroKernel<Element: Plain>>(&self, threads: usize, workspace: &mut Workspace) {
        debug_assert!(self.x.columns == self.weight.k() && (self.addend.is_none() || self.scale == 1.0));
        let slots = Slot::first(&mut workspace.slots, threads);
        let by_rows = threads == 1 || self.x.rows / threads >= MIN_ROWS_PER_THREAD;
        // SAFETY: the caller's contract is the same.
        unsafe {
            if by_rows {
                self.by_rows::<K>(slots);
            } else {
                self.by_columns::<K>(slots, &mut workspace.shared);
            }
        }
    }

    /// All of y.
    pub(crate) fn target(&self) -> Target {
        Target {
            y: self.y,
            scale: self.scale,
            bias: self.bias.map_or(std::ptr::null(), Buffer::as_ptr),
            addend: self.addend,
            finishing: self.finishing,
        }
    }
}

impl Lora<'_> {
    /// h, `[rows, r]`, whose first element is at `ptr`.
    pub(crate) fn h(&self, ptr: *mut f16) -> Target {
        let y = RowsMut { ptr, ld: self.a.rows() as isize };
        Target {
            y,
            scale: self.scale,
            bias: std::ptr::null(),
            addend: Input::NONE,
            finishing: Finishing::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, ArrayView2};

    use super::*;
    use crate::{
        Epilogue, Strategy,
        cpu::{Adapter, Simd, buffer::Buffer, kernel::portable::Portable, workspace::Block},
        error::Operand,
        reference::{self, Inputs, LoraView},
    };

    /// Which loops, and whether h comes from a product of its own.
    #[derive(Clone, Copy, Debug)]
    enum Loops {
        ByRows,
        ByColumns,
        Unfused,
    }

    fn matrix(rows: usize, columns: usize, seed: usize) -> Array2<f16> {
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            f16::from_f32(((i * 7 + j * 5 + seed) % 11) as f32 / 8.0 - 0.5)
        })
    }

    /// Both kinds of loops on sizes that [`Product::run`] would not give them, small enough for Miri, which
    /// knows no AVX. It takes minutes, so it is run by hand:
    /// `MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks -Zmiri-tree-borrows -Zmiri-permissive-provenance" cargo +nightly miri test -p fused-lora --lib --no-default-features cpu::product`
    #[test]
    fn either_kind_of_loops_at_any_size() {
        for [m, n, k, rank] in [[1, 1, 1, 1], [5, 9, 3, 2], [9, 17, 6, 9], [3, 2, 1030, 1]] {
            let (x, w) = (matrix(m, k, 1), matrix(n, k, 2));
            let (a, b) = (matrix(rank, k, 3), matrix(n, rank, 4));
            let adapter = Adapter::with_simd(Simd::Portable, a.view(), b.view(), 0.5).unwrap();
            let lora = LoraView { a: a.view(), b: b.view(), scale: 0.5 };
            let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(lora), epilogue: Epilogue::NONE };
            for (loops, strategy) in [
                (Loops::ByRows, Strategy::Fused),
                (Loops::ByColumns, Strategy::Fused),
                (Loops::Unfused, Strategy::Unfused),
            ] {
                let expected = reference::forward(&inputs, strategy).unwrap();
                for threads in 1..=2 {
                    let y = run(x.view(), w.view(), &adapter, loops, threads);
                    if let Err(mismatch) = reference::check_elements(&expected, y.view()) {
                        panic!("{loops:?}, {threads} threads, m {m} n {n} k {k} rank {rank}: {mismatch}");
                    }
                }
            }
        }
    }

    fn run(
        x: ArrayView2<'_, f16>,
        w: ArrayView2<'_, f16>,
        adapter: &Adapter,
        loops: Loops,
        threads: usize,
    ) -> Array2<f16> {
        let weight = Panels::pack::<Portable>(w);
        let mut y = Array2::from_elem((x.nrows(), w.nrows()), f16::NAN);
        let packed = adapter.packed();
        let base = Product {
            x: Rows::new(Operand::X, &x).unwrap(),
            weight: &weight,
            lora: None,
            y: RowsMut::new(Operand::Y, &mut y.view_mut()).unwrap(),
            scale: 1.0,
            bias: None::<&Buffer>,
            addend: Input::NONE,
            finishing: Finishing::NONE,
        };
        let fused = Product { lora: Some(Lora { a: &packed.a, b: &packed.b, scale: packed.scale }), ..base };
        let mut slots: Vec<_> = (0..threads).map(|_| Slot::default()).collect();
        // SAFETY: y has x's rows and w's; all is packed for Portable, which every CPU has; y lives to the
        // end.
        unsafe {
            match loops {
                Loops::ByRows => fused.by_rows::<Portable>(&mut slots),
                Loops::ByColumns => fused.by_columns::<Portable>(&mut slots, &mut Block::default()),
                Loops::Unfused => base.run_unfused::<Portable>(packed, &mut Workspace::new()),
            }
        }
        y
    }
}

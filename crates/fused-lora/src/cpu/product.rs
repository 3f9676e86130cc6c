//! One product, and how threads share it.
//!
//! ```text
//! many rows: each ticket is a block of rows            few rows, and odd ones of many: all threads together
//!   for each K block:                                    tickets: pack x, all of K          → gate
//!     pack x                                             tickets: panels of A               → h, gate
//!     sweep the panels of A   → h, at the end            tickets: panels of W               → y
//!     sweep the panels of W   → y, at the end
//! ```
//!
//! A *sweep* takes a packed block of rows through a panel of a weight, tile by tile. In the last K block of W
//! each tile's K loop runs on over h and B: that is the whole of the fusion.
//!
//! Rows that are a block's own are packed while they are in cache, and nothing is shared but W, A and B. Each
//! thread gets the same number of whole tiles of them; the rows that are left over, fewer than a tile for
//! each thread, are packed and shrunk by all, and each block takes its share of the panels of W through them
//! while it has that panel in cache. So 65 rows cost a 64th more than 64, and not as much as 80.
//!
//! There is one fork and one join. A ticket of W that finds h not ready computes its base product, waits, and
//! adds the expand to sums in memory: the same numbers, since f32 sums go through memory as they are.

use super::{
    blocks::{KBlocks, Rows as RowShare, steps_of},
    executor::{Executor, Serial},
    hidden::Hidden,
    kernel::{
        Finishing, Input, MicroKernel,
        levels::{Alone, Kernels, OutOf},
    },
    loras::{Lora, Loras, Packed},
    operands::Product,
    parallel::{Failed, share},
    sweep::{Sweep, pack_rows, sums_len},
    together::Together,
    view::{Rows, RowsMut},
    workspace::{Slot, Workspace},
};
use crate::error::Error;

/// Multiply-adds below which waking another thread costs more than it brings: some 10 µs of one.
const MIN_PARALLEL_WORK: usize = 1 << 19;

impl<P: Kernels> Product<'_, P> {
    /// # Safety
    ///
    /// - x can be read, y can be read and written, and nobody else touches y until this returns.
    /// - x has as many columns as the weight has elements in K, y as many rows as x and as many columns as
    ///   the weight has rows.
    /// - Addend and residuals are none, or can be read and have y's rows and columns; what they share with y
    ///   lies in the same place in both.
    /// - The bias is as long as the weight has rows, padded to whole vectors; A and B fit x and y, and each
    ///   other.
    /// - All of it is packed for P, and this CPU has P's instructions.
    ///
    /// # Errors
    ///
    /// [`Error::Executor`]
    pub(crate) unsafe fn run(&self, executor: &dyn Executor, workspace: &mut Workspace) -> Result<(), Error> {
        let work = self.x.rows.saturating_mul(self.x.columns).saturating_mul(self.weight.rows());
        let executor = if work < MIN_PARALLEL_WORK { &Serial } else { executor };
        // SAFETY: the caller's contract is the same.
        unsafe { self.run_on(executor, executor.threads().max(1), workspace) }
    }

    /// # Safety
    ///
    /// As [`run`](Self::run).
    pub(crate) unsafe fn run_on(
        &self,
        executor: &dyn Executor,
        threads: usize,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        debug_assert!(self.x.columns == self.weight.k() && (self.addend.is_none() || self.scale == 1.0));
        let rows = RowShare::new::<P::Main>(self.x.rows, threads);
        let longest = rows.apart.longest().max(rows.together.longest());
        let k_blocks = KBlocks::new::<P::Main>(self.x.columns, longest);
        let sums = self.sums(&rows, &k_blocks);
        let slots = Slot::first(&mut workspace.slots, threads);
        for slot in &mut *slots {
            slot.partial.reserve::<f32>(&[sums.total]);
            slot.block.x.reserve::<<P::Main as MicroKernel>::X>(&[
                rows.apart.longest(),
                k_blocks.longest::<P::Main>(),
            ]);
            // For any block; no other is longer than the first.
            Hidden::<P>::reserve(&mut slot.block, self.loras, 0..rows.apart.longest());
        }
        let together =
            Together::new(self, rows.together, k_blocks, rows.apart.count, threads, &mut workspace.shared);
        let failed = Failed::default();
        // In this order each ticket waits for smaller ones only.
        let stages = [together.packing(), together.shrinking(), rows.apart.count, together.panels_alone()];
        share(executor, slots, stages.iter().sum(), &failed, |ticket, slot| {
            let [pack, shrink, apart, _] = stages;
            let partial = slot.partial.as_mut_ptr::<f32>();
            // SAFETY: the caller's contract; x, sums and h are reserved for these rows, tickets write parts
            // of their own, and a slot is the ticket's own.
            unsafe {
                if let Some(block) = ticket.checked_sub(pack + shrink + apart) {
                    together.panel(block, partial, &failed);
                } else if let Some(block) = ticket.checked_sub(pack + shrink) {
                    self.block(&rows, block, &k_blocks, &sums, &together, slot, &failed);
                } else if let Some(panel) = ticket.checked_sub(pack) {
                    together.shrink(panel, partial, &failed);
                } else {
                    together.pack(ticket);
                }
            }
        })
    }

    /// The f32 sums that a slot needs room for.
    fn sums(&self, rows: &RowShare, k_blocks: &KBlocks) -> Sums {
        let (apart, together) = (rows.apart.longest(), rows.together.longest());
        let [w, a] = [self.weight.count(), self.loras.most.panels];
        // All of them between K blocks; else those of a panel on their way to a store, or to an expand that
        // is late.
        let panels = |of: usize| if k_blocks.count > 1 { of } else { 1 };
        let [apart, together] = [apart, together].map(sums_len::<P::Main>);
        let h = panels(a) * apart;
        let y = h + panels(w) * apart;
        // Odd rows go through a share of the panels; where there are no others, through one at a time.
        let guests = match rows.apart.count {
            0 => together,
            hosts => panels(w.div_ceil(hosts)) * sums_len::<P::Main>(rows.together.all().len()),
        };
        Sums { h, y, total: y + guests }
    }

    /// A block of rows through everything, and the odd rows through its share of W.
    ///
    /// # Safety
    ///
    /// As [`run`](Self::run); the slot is reserved for these rows, and nobody else's.
    #[allow(clippy::too_many_arguments, reason = "all of one call's plan")]
    unsafe fn block(
        &self,
        rows: &RowShare,
        block: usize,
        k_blocks: &KBlocks,
        sums: &Sums,
        together: &Together<'_, P>,
        slot: &mut Slot,
        failed: &Failed,
    ) {
        let range = rows.apart.range(block);
        let x = slot.block.x.as_mut_ptr::<<P::Main as MicroKernel>::X>();
        let h = Hidden::<P>::reserve(&mut slot.block, self.loras, range.clone());
        let one_panel = sums_len::<P::Main>(range.len());
        let h_sums = slot.partial.as_mut_ptr::<f32>();
        let [y_sums, guest_sums] = [sums.h, sums.y].map(|before| h_sums.wrapping_add(before));
        let guests = together.share_of(block);
        let y = self.columns(range.start);
        for k in k_blocks.iter() {
            let only = k.first && k.last;
            let at = |sums: *mut f32, p: usize| if only { sums } else { sums.wrapping_add(p * one_panel) };
            let steps = steps_of::<P::Main>(&k);
            let of_w = self.of_w(&k);
            let next = of_w.as_ref().and_then(|of_w| self.panel_bytes(0, of_w));
            let mut of_a = h
                .adapters()
                .iter()
                .flat_map(|lora| (0..lora.packed.a.count()).map(move |p| (lora, p)))
                .peekable();
            let bytes = |of_a: Option<&(&Lora, usize)>| {
                of_a.and_then(|(lora, p)| lora.packed.a.bytes(*p, steps.clone())).or(next)
            };
            // SAFETY: rows and k lie inside x, and the slot was reserved for that many rows and steps.
            unsafe {
                pack_rows::<P::Main, P::In>(self.x, range.clone(), k.range.clone(), x, bytes(of_a.peek()));
            };
            while let Some((lora, p)) = of_a.next() {
                let (sums, next) = (at(h_sums, lora.before.panels + p), bytes(of_a.peek()));
                // SAFETY: h and its sums were reserved for these rows and the panels of every A, and are this
                // slot's own.
                unsafe { h.shrink(lora, p, (x, k.clone()), sums, next) };
            }
            if k.last {
                // SAFETY: all of it was made.
                unsafe { h.pack() };
            }
            for p in 0..self.weight.count() {
                // SAFETY: y has these rows, and only this ticket writes them; the sums are this slot's own.
                unsafe {
                    if let Some(of_w) = &of_w {
                        let next = self.panel_bytes(p + 1, of_w);
                        let sweep = Sweep::<P::Main> { tiles: h.tiles(), x, k: of_w.clone(), columns: y };
                        sweep.run(p, 0..range.len(), at(y_sums, p), next, h.endings(p, p + 1));
                        if k.last {
                            h.finish(y, p, p + 1, at(y_sums, p), false);
                        }
                    }
                    if guests.contains(&p) {
                        together.guest(p, &k, guest_sums, p - guests.start, failed);
                    }
                }
            }
        }
    }
}

/// Where a slot's f32 sums of h end, and those of its own rows of y.
struct Sums {
    h: usize,
    y: usize,
    total: usize,
}

/// The same product by product, as PEFT runs them: base, shrink, expand. Activation and residuals belong to
/// the last one. Adapters of some rows or columns are the base product and one more pass for all of them.
///
/// # Safety
///
/// As [`Product::run`].
///
/// # Errors
///
/// As [`Product::run`].
pub(crate) unsafe fn run_unfused<P: Kernels>(
    product: &Product<'_, P>,
    executor: &dyn Executor,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    let (m, n) = (product.x.rows, product.weight.rows());
    let mut base = std::mem::take(&mut workspace.base);
    // The base's y lies in y, unless that still holds a residual.
    let y_is_residual =
        product.finishing.residuals.iter().any(|residual| residual.ptr == product.y.ptr.cast_const());
    let base_y = if y_is_residual {
        base.reserve::<OutOf<P>>(&[m, n]);
        RowsMut { ptr: base.as_mut_ptr(), ld: n as isize }
    } else {
        product.y
    };
    let addend = Input { ptr: base_y.ptr.cast_const(), ld: base_y.ld };
    // SAFETY: the caller's contract; the base's y is y or has its shape, and is this call's own.
    let outcome = unsafe {
        let alone = Product { loras: Loras::NONE, y: base_y, finishing: Finishing::NONE, ..*product };
        alone.run(executor, workspace).and_then(|()| match product.loras.only(product.weight) {
            Some(adapter) => shrink_and_expand(product, adapter, addend, executor, workspace),
            None => Product { base: false, bias: None, addend, ..*product }.run(executor, workspace),
        })
    };
    workspace.base = base;
    outcome
}

/// `h = round( s · x Aᵀ )` and `y = round( activation(addend + h Bᵀ) + residuals )`.
///
/// # Safety
///
/// As [`Product::run`], for an adapter of all rows and columns; the addend has y's shape, or is y.
///
/// # Errors
///
/// As [`Product::run`].
unsafe fn shrink_and_expand<P: Kernels>(
    product: &Product<'_, P>,
    adapter: &Packed,
    addend: Input<OutOf<P>>,
    executor: &dyn Executor,
    workspace: &mut Workspace,
) -> Result<(), Error> {
    let (m, a_rows, b_columns) = (product.x.rows, adapter.a.rows(), adapter.b.k());
    let [mut h, mut split] = [&mut workspace.h, &mut workspace.split_h].map(std::mem::take);
    h.reserve::<P::H>(&[m, a_rows]);
    let h_ptr = h.as_mut_ptr::<P::H>();
    let shrink = Product::<Alone<P::In, P::Shrink>> {
        x: product.x,
        weight: &adapter.a,
        loras: Loras::NONE,
        base: true,
        y: RowsMut { ptr: h_ptr, ld: a_rows as isize },
        scale: adapter.scale,
        bias: None,
        addend: Input::NONE,
        finishing: Finishing::NONE,
    };
    // SAFETY: the caller's contract; h has m rows of A's rows, and is this call's own.
    let outcome = unsafe {
        shrink.run(executor, workspace).and_then(|()| {
            let ptr = if P::SPLIT {
                split.reserve::<P::Wide>(&[m, b_columns]);
                P::split_h(m, b_columns / 3, h_ptr, split.as_mut_ptr());
                split.as_ptr()
            } else {
                h_ptr.cast_const().cast()
            };
            let expand = Product::<Alone<P::Wide, P::Expand>> {
                x: Rows { ptr, ld: b_columns as isize, rows: m, columns: b_columns },
                weight: &adapter.b,
                loras: Loras::NONE,
                base: true,
                y: product.y,
                scale: product.scale,
                bias: None,
                addend,
                finishing: product.finishing,
            };
            expand.run(executor, workspace)
        })
    };
    (workspace.h, workspace.split_h) = (h, split);
    outcome
}

#[cfg(test)]
mod tests {
    use half::f16;
    use ndarray::{Array2, ArrayView2};

    use super::*;
    use crate::{
        Epilogue, Strategy,
        cpu::{
            Adapter, Simd,
            executor::Rayon,
            kernel::{levels::Level, portable::Portable},
        },
        error::Operand,
        reference::{self, Inputs, LoraView},
    };

    fn matrix(rows: usize, columns: usize, seed: usize) -> Array2<f16> {
        Array2::from_shape_fn((rows, columns), |(i, j)| {
            f16::from_f32(((i * 7 + j * 5 + seed) % 11) as f32 / 8.0 - 0.5)
        })
    }

    /// Rows apart and together on sizes that [`Product::run`] would run on one thread, small enough for Miri,
    /// which knows no AVX. It takes minutes, so it is run by hand: `MIRIFLAGS="-Zmiri-disable-isolation
    /// -Zmiri-ignore-leaks -Zmiri-tree-borrows -Zmiri-permissive-provenance" cargo +nightly miri test -p
    /// fused-lora --lib --no-default-features cpu::product`
    #[test]
    fn any_number_of_threads_at_any_size() {
        for [m, n, k, rank] in
            [[1, 1, 1, 1], [5, 9, 3, 2], [9, 17, 6, 9], [3, 2, 1030, 1], [67, 9, 3, 2], [65, 20, 1030, 3]]
        {
            let (x, w) = (matrix(m, k, 1), matrix(n, k, 2));
            let (a, b) = (matrix(rank, k, 3), matrix(n, rank, 4));
            let adapter = Adapter::with_simd(Simd::Portable, a.view(), b.view(), 0.5).unwrap();
            let lora = LoraView { a: a.view(), b: b.view(), scale: 0.5 };
            let inputs = Inputs { x: x.view(), w: w.view(), adapter: Some(lora), epilogue: Epilogue::NONE };
            for strategy in [Strategy::Fused, Strategy::Unfused] {
                let expected = reference::forward(&inputs, strategy).unwrap();
                for threads in 1..=2 {
                    let y = run(x.view(), w.view(), &adapter, strategy, threads);
                    if let Err(mismatch) = reference::check_elements(&expected, y.view()) {
                        panic!("{strategy}, {threads} threads, m {m} n {n} k {k} rank {rank}: {mismatch}");
                    }
                }
            }
        }
    }

    fn run(
        x: ArrayView2<'_, f16>,
        w: ArrayView2<'_, f16>,
        adapter: &Adapter,
        strategy: Strategy,
        threads: usize,
    ) -> Array2<f16> {
        type Kernels = Portable<f16, f16>;
        let weight = Kernels::pack_weight(w);
        let mut y = Array2::from_elem((x.nrows(), w.nrows()), f16::NAN);
        let product = Product::<Kernels> {
            x: Rows::new(Operand::X, &x).unwrap(),
            weight: &weight,
            loras: adapter.loras(),
            base: true,
            y: RowsMut::new(Operand::Y, &mut y.view_mut()).unwrap(),
            scale: 1.0,
            bias: None,
            addend: Input::NONE,
            finishing: Finishing::NONE,
        };
        let workspace = &mut Workspace::new();
        // SAFETY: y has x's rows and w's; all is packed for Portable, which every CPU has; y lives to the
        // end.
        unsafe {
            match strategy {
                Strategy::Unfused => run_unfused(&product, &Rayon, workspace).unwrap(),
                _ => product.run_on(&Rayon, threads, workspace).unwrap(),
            }
        }
        y
    }
}

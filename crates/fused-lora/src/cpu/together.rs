//! Rows that all threads work on: x is packed and h is made by all of them, and each takes panels of W.

use std::ops::Range;

use super::{
    blocks::{KBlock, KBlocks, RowBlocks},
    hidden::Hidden,
    kernel::{MicroKernel, levels::Kernels},
    loras::Lora,
    operands::Product,
    panels::steps,
    parallel::{Failed, Gate, Shared},
    sweep::{Ending, Sweep, Tiles, fetch, pack_rows, sums_len},
    workspace::Block,
};

/// Such rows, in memory that all share. x is packed by K blocks, in each of them tile by tile.
pub(crate) struct Together<'a, P: Kernels> {
    product: &'a Product<'a, P>,
    rows: RowBlocks,
    k_blocks: KBlocks,
    /// Blocks of other rows that these are shared out to; 0 if there are none.
    hosts: usize,
    threads: usize,
    x: Shared<<P::Main as MicroKernel>::X>,
    h: Hidden<'a, P>,
    packed: Gate,
    shrunk: Gate,
}

// SAFETY: of what the pointers lead to, tickets write parts of their own, and read what others wrote behind a
// gate.
unsafe impl<P: Kernels> Sync for Together<'_, P> {}

impl<'a, P: Kernels> Together<'a, P> {
    pub(crate) fn new(
        product: &'a Product<'a, P>,
        rows: RowBlocks,
        k_blocks: KBlocks,
        hosts: usize,
        threads: usize,
        memory: &mut Block,
    ) -> Self {
        let count = rows.all().len();
        memory.x.reserve::<<P::Main as MicroKernel>::X>(&[count, steps::<P::Main>(product.x.columns)]);
        let h = Hidden::reserve(memory, product.loras, rows.all());
        let mut together = Self {
            product,
            rows,
            k_blocks,
            hosts,
            threads,
            x: Shared(memory.x.as_mut_ptr()),
            h,
            packed: Gate::new(0),
            shrunk: Gate::new(0),
        };
        (together.packed, together.shrunk) = (Gate::new(together.packing()), Gate::new(together.shrinking()));
        together
    }

    /// Tickets that pack x: one for each tile and K block.
    pub(crate) fn packing(&self) -> usize {
        self.rows.count * self.tiles() * self.k_blocks.count
    }

    /// Most tiles of a block.
    fn tiles(&self) -> usize {
        self.rows.longest().div_ceil(P::Main::MR)
    }

    /// Tickets that shrink: one for each panel of an A.
    pub(crate) fn shrinking(&self) -> usize {
        self.h.adapters().iter().map(|lora| lora.packed.a.count()).sum()
    }

    /// Tickets of panels of W, where there are no other rows.
    pub(crate) fn panels_alone(&self) -> usize {
        if self.hosts > 0 { 0 } else { self.product.weight.count() * self.rows.count }
    }

    /// The panels of W that these rows go through in block `host` of the others.
    pub(crate) fn share_of(&self, host: usize) -> Range<usize> {
        if self.rows.count == 0 {
            return 0..0;
        }
        let [start, end] = [host, host + 1].map(|i| i * self.product.weight.count() / self.hosts);
        start..end
    }

    /// Where the tile that starts at `row`, of these rows, lies in K block `k`.
    fn at(&self, k: &KBlock, row: usize) -> *mut <P::Main as MicroKernel>::X {
        let before = steps::<P::Main>(k.range.start) * self.rows.all().len();
        self.x.get().wrapping_add(before + row * steps::<P::Main>(k.range.len()))
    }

    /// # Safety
    ///
    /// As [`Product::run`]; each ticket once.
    pub(crate) unsafe fn pack(&self, ticket: usize) {
        let (tile, k) = (ticket / self.k_blocks.count, self.k_blocks.block(ticket % self.k_blocks.count));
        let (block, tile) = (self.rows.range(tile / self.tiles()), tile % self.tiles());
        let tiles = Tiles::new::<P::Main>(block.len());
        if tile < tiles.count() {
            let rows = tiles.range(tile);
            let rows = block.start + rows.start..block.start + rows.end;
            let to = self.at(&k, rows.start - self.rows.all().start);
            // SAFETY: rows and k lie inside x; no two tickets write the same tile of the same K block.
            unsafe { pack_rows::<P::Main, P::In>(self.product.x, rows, k.range, to, None) };
        }
        self.packed.pass(|| ());
    }

    /// # Safety
    ///
    /// As [`Product::run`]; each ticket once, `partial` has room for the rows' sums in a panel.
    pub(crate) unsafe fn shrink(&self, ticket: usize, partial: *mut f32, failed: &Failed) {
        if !self.packed.wait(failed) {
            return;
        }
        let (lora, panel) = self.panel_of_a(ticket).expect("a ticket for each panel");
        // Panels are short, and each lies somewhere else: of the next one the beginning, of B the first
        // panel.
        let next = self.panel_of_a(ticket + self.threads);
        fetch::<P::Shrink>(next.and_then(|(lora, p)| lora.packed.a.bytes(p, 0..lora.packed.a.steps())));
        fetch::<P::Expand>(lora.packed.bytes(lora.packed.first_panel));
        for (first, h) in (0..self.rows.count).map(|block| self.block(block)) {
            if lora.within(h.rows()).is_empty() {
                continue;
            }
            for k in self.k_blocks.iter() {
                let x = self.at(&k, first).cast_const();
                // SAFETY: x is packed; h was reserved for all rows, and this panel's columns are this
                // ticket's.
                unsafe { h.shrink(lora, panel, (x, k), partial, None) };
            }
        }
        self.shrunk.pass(|| {
            for (_, h) in (0..self.rows.count).map(|block| self.block(block)) {
                // SAFETY: all of h has been written before the last ticket passes.
                unsafe { h.pack() };
            }
        });
    }

    /// The panel of an A that a ticket shrinks by.
    fn panel_of_a(&self, ticket: usize) -> Option<(&'a Lora, usize)> {
        let mut before = 0;
        self.h.adapters().iter().find_map(|lora| {
            let panel = ticket - before;
            before += lora.packed.a.count();
            (ticket < before).then_some((lora, panel))
        })
    }

    /// A ticket of one panel and one block of rows, neighbours of a panel following each other.
    ///
    /// # Safety
    ///
    /// As [`Product::run`]; each ticket once, `partial` has room for a block's sums in a panel.
    pub(crate) unsafe fn panel(&self, ticket: usize, partial: *mut f32, failed: &Failed) {
        let (panel, block) = (ticket / self.rows.count, ticket % self.rows.count);
        if !self.packed.wait(failed) {
            return;
        }
        // Of h that is not ready: the base product now, the expand later.
        let late = !self.shrunk.is_open();
        // Threads take panels in turn, more or less.
        let next = panel + self.threads;
        for k in self.k_blocks.iter() {
            // SAFETY: the caller's contract; these rows of this panel's columns are this ticket's own.
            unsafe { self.sweep(block, &k, [panel, next], partial, late) };
        }
        if late && self.shrunk.wait(failed) {
            let (_, h) = self.block(block);
            let y = self.product.columns(h.rows().start);
            // SAFETY: as above; h is ready, and `partial` holds the base product's sums.
            unsafe { h.finish(y, panel, next, partial, true) };
        }
    }

    /// All these rows through panel `p` and K block `k`, beside rows of another block, whose `index`th guest
    /// it is.
    ///
    /// # Safety
    ///
    /// As [`Product::run`]; each panel in one block, K blocks in order; `sums` has room for all guests of a
    /// block.
    pub(crate) unsafe fn guest(&self, p: usize, k: &KBlock, sums: *mut f32, index: usize, failed: &Failed) {
        let ready = self.packed.wait(failed) && (!k.last || self.shrunk.wait(failed));
        if !ready {
            return;
        }
        let only = k.first && k.last;
        let mut partial = sums;
        if !only {
            partial = sums.wrapping_add(index * sums_len::<P::Main>(self.rows.all().len()));
        }
        for block in 0..self.rows.count {
            // SAFETY: the caller's contract. The host fetches panels for both.
            unsafe { self.sweep(block, k, [p, usize::MAX], partial, false) };
            partial = partial.wrapping_add(sums_len::<P::Main>(self.rows.range(block).len()));
        }
    }

    /// The first row of a block, of these rows, and its h.
    fn block(&self, block: usize) -> (usize, Hidden<'a, P>) {
        let range = self.rows.range(block);
        (range.start - self.rows.all().start, self.h.block(range))
    }

    /// A block through panel `p` and K block `k`; where h is late, no further than to sums.
    ///
    /// # Safety
    ///
    /// As [`panel`](Self::panel); unless h is late, it is ready in the last K block.
    unsafe fn sweep(&self, block: usize, k: &KBlock, [p, next]: [usize; 2], sums: *mut f32, late: bool) {
        let (first, h) = self.block(block);
        let Some(of_w) = self.product.of_w(k) else { return };
        let (x, columns) = (self.at(k, first).cast_const(), self.product.columns(h.rows().start));
        let (rows, bytes) = (h.rows().len(), self.product.panel_bytes(next, &of_w));
        let sweep = Sweep::<P::Main> { tiles: h.tiles(), x, k: of_w, columns };
        let mut endings = h.endings(p, next);
        // SAFETY: the caller's contract.
        unsafe {
            sweep.run(p, 0..rows, sums, bytes, |t| if late { Ending::Sums } else { endings(t) });
            if k.last && !late {
                h.finish(columns, p, next, sums, false);
            }
        }
    }
}

//! Rows that all threads work on: x is packed and h is made by all of them, and each takes panels of W.

use std::ops::Range;

use super::{
    blocks::{KBlock, KBlocks, RowBlocks},
    kernel::{
        MicroKernel,
        levels::{Kernels, OutOf},
    },
    operands::Product,
    panels::steps,
    parallel::{Failed, Gate, Shared},
    sweep::{Expand, HBlock, Sweep, Target, expand_alone, pack_rows, sums_len, tile_height},
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
    h: HBlock<P>,
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
        let h = HBlock::reserve(memory, count, product.adapter());
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

    /// Tickets that shrink: one for each panel of A.
    pub(crate) fn shrinking(&self) -> usize {
        self.product.lora.filter(|_| self.rows.count > 0).map_or(0, |lora| lora.a.count())
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
        let height = tile_height::<P::Main>(block.len());
        let rows = block.start + tile * height..(block.start + (tile + 1) * height).min(block.end);
        if !rows.is_empty() {
            let to = self.at(&k, rows.start - self.rows.all().start);
            // SAFETY: rows and k lie inside x; no two tickets write the same tile of the same K block.
            unsafe { pack_rows::<P::Main, P::In>(self.product.x, rows, k.range, to, None) };
        }
        self.packed.pass(|| ());
    }

    /// # Safety
    ///
    /// As [`Product::run`]; each panel once, `partial` has room for the rows' sums in a panel.
    pub(crate) unsafe fn shrink(&self, panel: usize, partial: *mut f32, failed: &Failed) {
        let Some(lora) = self.product.lora.filter(|_| self.packed.wait(failed)) else { return };
        for block in 0..self.rows.count {
            let (first, rows) = self.block(block);
            for k in self.k_blocks.iter() {
                let to = self.h.target(lora.a, lora.scale).below(first);
                let x = self.at(&k, first).cast_const();
                let sweep = Sweep::<P::Shrink> { rows, x, k, panels: lora.a, expand: None, to };
                // SAFETY: x is packed; h was reserved for all rows, and this panel's columns are this
                // ticket's.
                unsafe { sweep.run(panel, partial, [None; 2]) };
            }
        }
        self.shrunk.pass(|| {
            for (first, rows) in (0..self.rows.count).map(|block| self.block(block)) {
                // SAFETY: all of h has been written before the last ticket passes.
                unsafe { self.h.pack(first..first + rows, lora.b) };
            }
        });
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
        let late = self.product.lora.is_some() && !self.shrunk.is_open();
        for k in self.k_blocks.iter() {
            let last = k.last && !late;
            // SAFETY: the caller's contract; these rows of this panel's columns are this ticket's own.
            unsafe {
                // Threads take panels in turn, more or less.
                let next = self.product.panel_bytes(panel + self.threads, &k);
                self.sweep(block, KBlock { last, ..k }).run(panel, partial, next);
            }
        }
        if late && self.shrunk.wait(failed) {
            let (first, rows) = self.block(block);
            let expand = self.expand(first).expect("what is late is an adapter");
            // SAFETY: as above; h is ready, and `partial` holds the base product's sums.
            unsafe { expand_alone::<P>(rows, expand, self.target(block)).run(panel, partial, [None; 2]) };
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
            unsafe { self.sweep(block, k.clone()).run(p, partial, [None; 2]) };
            partial = partial.wrapping_add(sums_len::<P::Main>(self.block(block).1));
        }
    }

    /// The first row of a block, of these rows, and how many it has.
    fn block(&self, block: usize) -> (usize, usize) {
        let range = self.rows.range(block);
        (range.start - self.rows.all().start, range.len())
    }

    fn sweep(&self, block: usize, k: KBlock) -> Sweep<'_, P::Main> {
        let (first, rows) = self.block(block);
        let x = self.at(&k, first).cast_const();
        let expand = if k.last { self.expand(first) } else { None };
        Sweep { rows, x, k, panels: self.product.weight, expand, to: self.target(block) }
    }

    fn target(&self, block: usize) -> Target<OutOf<P>> {
        self.product.target().below(self.rows.range(block).start)
    }

    /// From the tile on that starts at `row`.
    fn expand(&self, row: usize) -> Option<Expand<'_, <P::Main as MicroKernel>::X>> {
        self.product.lora.map(|lora| Expand {
            h: self.h.packed.wrapping_add(row * lora.b.steps()).cast_const(),
            b: lora.b,
        })
    }
}

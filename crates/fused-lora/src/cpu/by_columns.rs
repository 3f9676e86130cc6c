//! The loops for few rows: threads share the packed rows, each takes panels through all of K.

use half::f16;

use super::{
    blocks::{KBlock, KBlocks, RowBlocks},
    buffer::Plain,
    kernel::MicroKernel,
    panels::Panels,
    parallel::{Shared, for_each},
    product::Product,
    sweep::{Expand, Sweep, Target, pack_rows, sums_len},
    workspace::{Block, Slot},
};

impl Product<'_> {
    /// # Safety
    ///
    /// As [`run`](Self::run).
    pub(crate) unsafe fn by_columns<K: MicroKernel<Element: Plain>>(
        &self,
        slots: &mut [Slot],
        shared: &mut Block,
    ) {
        let m = self.x.rows;
        let k_blocks = KBlocks::new(self.x.columns);
        let blocks = RowBlocks::new::<K>(m, 1);
        shared.x.reserve::<f32>(&[m.div_ceil(K::MR), self.x.columns, K::PITCH]);
        for slot in &mut *slots {
            slot.partial.reserve::<f32>(&sums_len::<K>(&k_blocks, 1, blocks.tiles::<K>(), &self.finishing));
        }
        let columns = Columns { x: Shared(shared.x.as_mut_ptr()), m, blocks, k_blocks };

        for_each(slots, blocks.count, |block, _| {
            for k in k_blocks.iter() {
                let rows = blocks.range(block);
                let to = columns.packed::<K>(&k, rows.start);
                // SAFETY: rows and k lie inside x; blocks are whole tiles, so no two tasks write the same
                // one.
                unsafe { pack_rows::<K>(self.x, rows, k.range, to) };
            }
        });
        let expand = self.lora.map(|lora| {
            let rank = lora.a.rows();
            shared.reserve_h::<K>(m, rank);
            let h = lora.h(shared.h.as_mut_ptr::<f16>());
            // SAFETY: h was reserved for m rows of `rank`.
            unsafe { columns.run::<K>(slots, lora.a, None, &h) };
            // SAFETY: all of h has been written just now, its packed form was reserved with it.
            unsafe { shared.pack_h::<K>(m, rank) };
            Expand { h: shared.packed_h.as_ptr(), b: lora.b }
        });
        // SAFETY: y has m rows and the weight's columns, says the caller; packed h has m rows.
        unsafe { columns.run::<K>(slots, self.weight, expand, &self.target()) };
    }
}

/// All rows, packed: K blocks one after another, and in each of them all tiles.
struct Columns {
    x: Shared<f32>,
    m: usize,
    blocks: RowBlocks,
    k_blocks: KBlocks,
}

impl Columns {
    /// Where the tile that starts at `row` lies in K block `k`.
    fn packed<K: MicroKernel>(&self, k: &KBlock, row: usize) -> *mut f32 {
        let tiles_before = k.range.start * self.m.div_ceil(K::MR) + row / K::MR * k.range.len();
        self.x.get().wrapping_add(tiles_before * K::PITCH)
    }

    /// One task for each panel and block of rows, neighbours of a panel following each other.
    ///
    /// # Safety
    ///
    /// x is packed; `to` has m rows and a column for each row of `panels`, and nobody else touches it; the
    /// slots' `partial` has room for what [`sums_len`] says of a block; packed h has m rows.
    unsafe fn run<K: MicroKernel<Element: Plain>>(
        &self,
        slots: &mut [Slot],
        panels: &Panels,
        expand: Option<Expand<'_>>,
        to: &Target,
    ) {
        let to = SharedTarget(*to);
        let expand = expand.map(|Expand { h, b }| (Shared(h.cast_mut()), b));
        for_each(slots, panels.count::<K>() * self.blocks.count, |task, slot| {
            let (panel, block) = (task / self.blocks.count, task % self.blocks.count);
            let rows = self.blocks.range(block);
            let expand = expand.map(|(h, b)| {
                let before = rows.start / K::MR * b.k() * K::PITCH;
                Expand { h: h.get().wrapping_add(before), b }
            });
            let y = to.get().below(rows.start);
            for k in self.k_blocks.iter() {
                let sweep = Sweep::<K>::new(rows.len(), self.packed::<K>(&k, rows.start), k);
                // SAFETY: the caller's contract; these rows of this panel's columns are this task's own, the
                // sums this slot's.
                unsafe { sweep.run(panels, panel..panel + 1, expand, slot.partial.as_mut_ptr(), &y) };
            }
        });
    }
}

/// A target whose parts several threads write.
struct SharedTarget(Target);

// SAFETY: tasks write disjoint parts of it, and read bias, addend and residuals, of which what they share
// with y is theirs.
unsafe impl Sync for SharedTarget {}

impl SharedTarget {
    /// A method, so that closures capture the whole and not the pointers in it.
    fn get(&self) -> Target {
        self.0
    }
}

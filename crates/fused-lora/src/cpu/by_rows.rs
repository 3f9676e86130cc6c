//! The loops for many rows: each thread takes a block of rows through everything.

use super::{
    blocks::{KBlocks, RowBlocks},
    buffer::Plain,
    kernel::{Finishing, MicroKernel},
    parallel::for_each,
    product::Product,
    sweep::{Expand, Sweep, pack_rows, sums_len},
    workspace::Slot,
};

impl Product<'_> {
    /// # Safety
    ///
    /// As [`run`](Self::run).
    pub(crate) unsafe fn by_rows<K: MicroKernel<Element: Plain>>(&self, slots: &mut [Slot]) {
        let blocks = RowBlocks::new::<K>(self.x.rows, slots.len());
        let k_blocks = KBlocks::new(self.x.columns);
        let w_panels = self.weight.count::<K>();
        let (rank, a_panels) = self.lora.map_or((0, 0), |lora| (lora.a.rows(), lora.a.count::<K>()));
        // f32 sums: those of h, then those of y.
        let tiles = blocks.tiles::<K>();
        let [h_sums, tile_len] = sums_len::<K>(&k_blocks, a_panels, tiles, &Finishing::NONE);
        let [y_sums, _] = sums_len::<K>(&k_blocks, w_panels, tiles, &self.finishing);
        for slot in &mut *slots {
            slot.block.x.reserve::<f32>(&[tiles, k_blocks.longest(), K::PITCH]);
            slot.block.reserve_h::<K>(blocks.size, rank);
            slot.partial.reserve::<f32>(&[h_sums + y_sums, tile_len]);
        }
        for_each(slots, blocks.count, |block, slot| {
            let rows = blocks.range(block);
            let h_partial = slot.partial.as_mut_ptr::<f32>();
            let y_partial = h_partial.wrapping_add(h_sums * tile_len);
            for k in k_blocks.iter() {
                let x = slot.block.x.as_mut_ptr::<f32>();
                // SAFETY: rows and k lie inside x, and `x` was reserved for that many tiles and steps.
                unsafe { pack_rows::<K>(self.x, rows.clone(), k.range.clone(), x) };
                let sweep = Sweep::<K>::new(rows.len(), x, k.clone());
                let expand = self.lora.map(|lora| {
                    let h = lora.h(slot.block.h.as_mut_ptr());
                    // SAFETY: h and the first sums were reserved for these rows and A's panels, and are this
                    // slot's own.
                    unsafe { sweep.run(lora.a, 0..a_panels, None, h_partial, &h) };
                    if k.last {
                        // SAFETY: h has been written just now, its packed form was reserved with it.
                        unsafe { slot.block.pack_h::<K>(rows.len(), rank) };
                    }
                    Expand { h: slot.block.packed_h.as_ptr(), b: lora.b }
                });
                let y = self.target().below(rows.start);
                // SAFETY: y has these rows, and only this task writes them; the other sums are this slot's
                // own.
                unsafe { sweep.run(self.weight, 0..w_panels, expand, y_partial, &y) };
            }
        });
    }
}

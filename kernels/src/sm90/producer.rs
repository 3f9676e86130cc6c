//! The thread that starts all copies of a CTA.
//!
//! It runs ahead of the consumers by as many slots as the ring has, over the ends of work items, too: while
//! they finish a tile of y, the first steps of the next one are loaded.

use core::marker::PhantomData;

use super::{
    barriers::{Barriers, Turn, wait, wait_for_readers},
    board::{Board, Chunk, Panel},
    cluster::Cluster,
    ring::Ring,
    schedule::steps,
    slices::Slices,
    tile::{BLOCK_K, PANEL, ROW_BYTES, Tile},
};
use crate::{
    device::{SharedAddr, fence_proxy_async_global, load_box, mbarrier_arrive_expect_tx},
    maps::Maps,
    params::Params,
    sm80::{
        hand_over,
        schedule::{self, HItem},
        segments::{first_segment, next_part},
    },
};

/// Where the producer is.
pub(super) struct Producer<'a, T> {
    params: &'a Params,
    maps: Maps,
    shared: SharedAddr,
    cluster: Cluster,
    barriers: Barriers<T>,
    turn: Turn,
    board: Board<T>,
    tile: PhantomData<T>,
}

/// Most panels of h that a CTA makes.
const MAX_OWN_PANELS: usize = 2;

/// A slot that is being filled.
#[derive(Clone, Copy)]
struct Slot {
    at: SharedAddr,
    full: SharedAddr,
}

impl<'a, T: Tile> Producer<'a, T> {
    #[inline(always)]
    pub(super) fn new(params: &'a Params, maps: Maps, shared: SharedAddr, cluster: Cluster) -> Self {
        Self {
            params,
            maps,
            shared,
            cluster,
            barriers: Barriers::new(shared),
            turn: Turn::FIRST,
            board: Board::first(shared),
            tile: PhantomData,
        }
    }

    /// Waits until the next slot is empty in all CTAs that this one copies to, and says how many bytes will
    /// land in this CTA's.
    ///
    /// # Safety
    ///
    /// So many bytes are then copied there, by this CTA or others of the cluster.
    #[inline(always)]
    #[track_caller]
    unsafe fn next_slot(&mut self, bytes: u32) -> Slot {
        let Turn { place, .. } = self.turn;
        let slot = Slot { at: self.shared.offset(place * T::SLOT_BYTES), full: self.barriers.full(place) };
        // SAFETY: barriers of this CTA, whose phases this thread follows; one arrival a phase.
        unsafe {
            let empty = self.barriers.empty(place);
            if T::SLICED {
                wait_for_readers(empty, self.turn.free());
            } else {
                wait(empty, self.turn.free());
            }
            mbarrier_arrive_expect_tx(slot.full, bytes);
        }
        self.turn.advance(T::STAGES);
        slot
    }

    /// Tells the consumers that there is no more.
    ///
    /// # Safety
    ///
    /// Once, last.
    #[inline(always)]
    pub(super) unsafe fn finish(&mut self) {
        // SAFETY: the board is empty when it is written.
        unsafe {
            self.board.wait_until_empty();
            self.board.set_item([schedule::DONE, 0, 0, 0], [0; 4]);
            self.board.publish();
        }
    }

    /// Loads a tile of y of the base product.
    ///
    /// # Safety
    ///
    /// The tile is one of y; with a cluster, all of its CTAs load tiles of the same row tile.
    #[inline(always)]
    pub(super) unsafe fn base(&mut self, row_tile: u32, column_tile: u32) {
        // SAFETY: the caller's contract; the board is empty when it is written.
        unsafe {
            self.board.wait_until_empty();
            self.board.set_item([schedule::OUTPUT, row_tile, column_tile, 0], [0; 4]);
            self.board.publish();
            self.load_base(row_tile, column_tile, 0);
            self.board.advance();
        }
    }

    /// Loads a tile of y: base, this CTA's panels of A on the side, and the expand's B.
    ///
    /// # Safety
    ///
    /// As [`base`](Self::base); the tables are as [`Lora`](crate::params::Lora) says.
    #[inline(always)]
    pub(super) unsafe fn with_own_h(&mut self, row_tile: u32, column_tile: u32) {
        // SAFETY: the caller's contract; the board is empty when it is written.
        unsafe {
            self.board.wait_until_empty();
            let (panels, chunks) = self.survey(row_tile, column_tile);
            let own = panels.saturating_sub(self.first_own()).min(T::PANELS);
            self.board.set_item([schedule::OUTPUT, row_tile, column_tile, panels], [chunks, own, 0, 0]);
            self.board.publish();
            self.load_base(row_tile, column_tile, panels);
            let mut i = 0;
            while i < chunks {
                let chunk = self.board.own_chunk(i);
                let slot = self.next_slot(T::BLOCK_N * ROW_BYTES);
                self.load_b(slot, chunk, column_tile);
                i += 1;
            }
            self.board.advance();
        }
    }

    /// Loads a tile of y: base, and the expand's B and h, which comes from tiles of h of the same launch.
    ///
    /// # Safety
    ///
    /// As [`base`](Self::base), without a cluster; tables and counters are as [`Lora`](crate::params::Lora)
    /// says; `items` tiles of h make the row tile's.
    #[inline(always)]
    pub(super) unsafe fn with_shared_h(&mut self, row_tile: u32, column_tile: u32, items: u32) {
        let lora = &self.params.lora;
        // SAFETY: the caller's contract; the board is empty when it is written; h is loaded when it is
        // visible.
        unsafe {
            self.board.wait_until_empty();
            let (panels, chunks) = self.survey(row_tile, column_tile);
            self.board.set_item([schedule::OUTPUT, row_tile, column_tile, panels], [chunks, 0, 0, 0]);
            self.board.publish();
            self.load_base(row_tile, column_tile, 0);
            let mut i = 0;
            while i < chunks {
                let chunk = self.board.own_chunk(i);
                let slot = self.next_slot((T::BLOCK_M + T::BLOCK_N) * ROW_BYTES);
                // B depends on nobody.
                self.load_b(slot, chunk, column_tile);
                if i == 0 {
                    while !hand_over::is_ready(lora, row_tile, items) {}
                    // h was stored by threads and is loaded by the copy engine. They have fenced it; the
                    // manual leaves open on which side of the hand-over the fence must stand, so that it
                    // stands on both.
                    fence_proxy_async_global();
                }
                load_box(slot.at, self.maps.h(), chunk.panel * PANEL, row_tile * T::BLOCK_M, slot.full);
                i += 1;
            }
            if items > 0 {
                if chunks == 0 {
                    // The last tile to pass sets the counter back: not before all items were counted.
                    while !hand_over::is_ready(lora, row_tile, items) {}
                }
                hand_over::pass(lora, row_tile, self.params.n.div_ceil(T::BLOCK_N));
            }
            self.board.advance();
        }
    }

    /// Loads a tile of h.
    ///
    /// # Safety
    ///
    /// The item is one of the launch's; the tables are as [`Lora`](crate::params::Lora) says; no cluster.
    #[inline(always)]
    pub(super) unsafe fn h(&mut self, HItem { row_tile, segment: wanted, chunk }: HItem) {
        // SAFETY: the caller's contract; the board is empty when it is written.
        unsafe {
            self.board.wait_until_empty();
            let first_row = row_tile * T::BLOCK_M;
            let mut segment = first_segment(&self.params.lora, row_tile);
            let mut first_panel = 0;
            let mut part = next_part(self.params, first_row, T::BLOCK_M, &mut segment);
            // One adapter for all rows has no others before it.
            while !self.params.lora.segments.is_null() && segment != wanted.wrapping_add(1) {
                first_panel += part.rank16() / PANEL;
                part = next_part(self.params, first_row, T::BLOCK_M, &mut segment);
            }
            let column = chunk * T::H_COLUMNS;
            let slab_row = part.adapter.offset + column;
            let columns = (part.rank16() - column).min(T::H_COLUMNS);
            self.board.set_item([schedule::H, row_tile, first_panel * PANEL + column, columns], [0; 4]);
            let real = part.adapter.rank.saturating_sub(column);
            let scale = part.adapter.scale;
            self.board.set_panel(0, Panel { slab_row, begin: part.begin, end: part.end, scale, real });
            self.board.publish();
            let steps = steps::<T>(self.params.k);
            let mut step = 0;
            while step < steps {
                let slot = self.next_slot((T::BLOCK_M + T::H_COLUMNS) * ROW_BYTES);
                load_box(slot.at, self.maps.x(), step * BLOCK_K, first_row, slot.full);
                load_box(slot.at.offset(T::W_OFFSET), self.maps.a(), step * BLOCK_K, slab_row, slot.full);
                step += 1;
            }
            self.board.advance();
        }
    }

    /// The first panel of h that this CTA makes.
    #[inline(always)]
    fn first_own(&self) -> u32 {
        if T::SLICED { 0 } else { self.cluster.rank() * T::PANELS }
    }

    /// Writes the panels that this CTA makes, and the steps of the expand, to the board; how many panels the
    /// row tile has, and how many steps the cluster's column tiles need.
    ///
    /// # Safety
    ///
    /// The board is empty; the tables are as [`Lora`](crate::params::Lora) says.
    #[inline(always)]
    unsafe fn survey(&mut self, row_tile: u32, column_tile: u32) -> (u32, u32) {
        let (rank, size) = (self.cluster.rank(), self.cluster.size());
        let first_row = row_tile * T::BLOCK_M;
        // The columns of the whole cluster: its CTAs fill the slots of each other's rings, so that all of
        // them must take the same steps. Where a tile has no column of an adapter, B is zero.
        let first_column = (column_tile - rank) * T::BLOCK_N;
        let past_column = first_column + size * T::BLOCK_N;
        let first_own = self.first_own();
        // SAFETY: the caller's contract.
        unsafe {
            let mut i = 0;
            while i < T::PANELS {
                self.board.set_panel(i, Panel::none(self.params.lora.ldb));
                i += 1;
            }
            let mut segment = first_segment(&self.params.lora, row_tile);
            let (mut panels, mut chunks) = (0, 0);
            loop {
                let part = next_part(self.params, first_row, T::BLOCK_M, &mut segment);
                if part.is_none() {
                    return (panels, chunks);
                }
                let adapter = &part.adapter;
                let count = part.rank16() / PANEL;
                i = 0;
                while i < T::PANELS {
                    let within = (first_own + i).wrapping_sub(panels);
                    if within < count {
                        let slab_row = adapter.offset + within * PANEL;
                        let real = adapter.rank - within * PANEL;
                        let (begin, end, scale) = (part.begin, part.end, adapter.scale);
                        self.board.set_panel(i, Panel { slab_row, begin, end, scale, real });
                    }
                    i += 1;
                }
                if adapter.touches(first_column, past_column) {
                    let mut done = 0;
                    while done < count {
                        let chunk = Chunk {
                            panel: panels + done,
                            panels: (count - done).min(BLOCK_K / PANEL),
                            b_panel: adapter.offset / PANEL + done,
                        };
                        self.board.set_chunk(chunks, chunk);
                        chunks += 1;
                        done += chunk.panels;
                    }
                }
                panels += count;
            }
        }
    }

    /// Loads all steps of the base, with this CTA's panels of A if the row tile has `panels`.
    ///
    /// # Safety
    ///
    /// As [`base`](Self::base); with [`H`](Tile::H), the panels stand on the board.
    #[inline(always)]
    unsafe fn load_base(&mut self, row_tile: u32, column_tile: u32, panels: u32) {
        // SAFETY: the caller's contract.
        unsafe { self.load_steps(row_tile, column_tile, panels, 0, steps::<T>(self.params.k)) }
    }

    /// Loads some steps of the base.
    ///
    /// # Safety
    ///
    /// As [`load_base`](Self::load_base).
    #[inline(always)]
    pub(super) unsafe fn load_steps(
        &mut self,
        row_tile: u32,
        column_tile: u32,
        panels: u32,
        first: u32,
        last: u32,
    ) {
        // SAFETY: the caller's contract.
        unsafe {
            if Ring::<T>::new(self.cluster).ctas() > 1 {
                self.load_steps_to::<true>(row_tile, column_tile, panels, first, last);
            } else {
                self.load_steps_to::<false>(row_tile, column_tile, panels, first, last);
            }
        }
    }

    /// The same, where several CTAs share a ring, or one has it alone: a loop for each, without a test in its
    /// steps.
    ///
    /// # Safety
    ///
    /// As [`load_base`](Self::load_base); `SHARED` says how many CTAs the ring has.
    #[inline(always)]
    unsafe fn load_steps_to<const SHARED: bool>(
        &mut self,
        row_tile: u32,
        column_tile: u32,
        panels: u32,
        first: u32,
        last: u32,
    ) {
        const { assert!(T::PANELS as usize <= MAX_OWN_PANELS) };
        let ring = Ring::<T>::new(self.cluster);
        // Without h nobody reads A's place, and there may be no A.
        let has_a = T::PANELS > 0 && panels > 0;
        let bytes = if has_a { T::SLOT_BYTES } else { T::A_OFFSET };
        let mut slab_rows = [0; MAX_OWN_PANELS];
        let mut i = 0;
        while has_a && i < T::PANELS {
            // SAFETY: the panels stand on the board.
            slab_rows[i as usize] = unsafe { self.board.slab_row(i) };
            i += 1;
        }
        let mut slices = Slices::new(self.cluster);
        let mut step = first;
        while step < last {
            // A is there in all steps or in none; in slices, in this CTA's.
            let (has_a, bytes) = match T::SLICED {
                true if has_a && slices.next_is_own() => (true, bytes),
                true => (false, T::A_OFFSET),
                false => (has_a, bytes),
            };
            // SAFETY: the slot is empty in all CTAs that have it, and expects what is copied.
            unsafe {
                let slot = self.next_slot(bytes);
                let column = step * BLOCK_K;
                ring.load_x::<SHARED>(slot.at, self.maps.x(), column, row_tile * T::BLOCK_M, slot.full);
                load_box(
                    slot.at.offset(T::W_OFFSET),
                    self.maps.w(),
                    column,
                    column_tile * T::BLOCK_N,
                    slot.full,
                );
                let mut i = 0;
                while has_a && i < T::PANELS {
                    let a_at = slot.at.offset(T::A_OFFSET + i * PANEL * ROW_BYTES);
                    load_box(a_at, self.maps.a(), column, slab_rows[i as usize], slot.full);
                    i += 1;
                }
            }
            step += 1;
        }
    }

    /// Loads B of a step of the expand.
    ///
    /// # Safety
    ///
    /// The slot is empty, and expects it.
    #[inline(always)]
    #[track_caller]
    unsafe fn load_b(&self, slot: Slot, chunk: Chunk, column_tile: u32) {
        let (column, row) = (chunk.b_panel * PANEL, column_tile * T::BLOCK_N);
        // SAFETY: the caller's contract.
        unsafe { load_box(slot.at.offset(T::W_OFFSET), self.maps.b(), column, row, slot.full) }
    }
}

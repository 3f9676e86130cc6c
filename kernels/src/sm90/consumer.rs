//! A warpgroup that multiplies: 64 rows of x by all columns of a tile.

use core::{marker::PhantomData, mem};

use super::{
    barriers::{Barriers, Turn, wait},
    board::Chunk,
    cluster::Cluster,
    lane::Lane,
    ring::{NONE, Ring},
    slices::Slices,
    store::sync_warpgroup,
    tile::{BLOCK_K, PANEL, ROW_BYTES, Tile, WARPGROUP_ROWS},
};
use crate::{
    device::{
        Descriptor, Fragments, Pending, Registers, STEP_BYTES, SharedAddr, Sums, fence_proxy_async_shared,
        ldmatrix_x4,
    },
    sm80::swizzle::chunk_at,
};

/// Where a consumer is in the ring.
pub(super) struct Consumer<T> {
    pub shared: SharedAddr,
    pub cluster: Cluster,
    pub barriers: Barriers<T>,
    turn: Turn,
    /// The slot whose products may still be under way; [`NONE`] for none.
    held: u32,
    pub warpgroup: u32,
    tile: PhantomData<T>,
}

impl<T: Tile> Consumer<T> {
    #[inline(always)]
    pub(super) fn new(shared: SharedAddr, cluster: Cluster, warpgroup: u32) -> Self {
        Self {
            shared,
            cluster,
            barriers: Barriers::new(shared),
            turn: Turn::FIRST,
            held: NONE,
            warpgroup,
            tile: PhantomData,
        }
    }

    /// Waits for a slot. Its first operand's rows of this warpgroup, and its second operand.
    ///
    /// # Safety
    ///
    /// The producer fills it.
    #[inline(always)]
    #[track_caller]
    unsafe fn slot(&self, turn: Turn) -> (Descriptor, Descriptor) {
        let slot = self.shared.offset(turn.place * T::SLOT_BYTES);
        // SAFETY: a barrier of this CTA, whose phases the consumers follow.
        unsafe { wait(self.barriers.full(turn.place), turn.parity) };
        let rows = slot.offset(self.warpgroup * WARPGROUP_ROWS * ROW_BYTES);
        (Descriptor::rows_of_128(rows), Descriptor::rows_of_128(slot.offset(T::W_OFFSET)))
    }

    /// Says that the slot before is empty, now that its products are over, and holds this one.
    ///
    /// # Safety
    ///
    /// All groups but those of this slot have been waited for.
    #[inline(always)]
    #[track_caller]
    unsafe fn release_previous(&mut self) {
        // SAFETY: the caller's contract.
        unsafe { self.release_held() };
        self.held = self.turn.place;
        self.turn.advance(T::STAGES);
    }

    /// Says to all CTAs that copy there that the held slot is empty.
    ///
    /// # Safety
    ///
    /// All groups of the slot have been waited for.
    #[inline(always)]
    #[track_caller]
    pub(super) unsafe fn release_held(&mut self) {
        if self.held != NONE {
            // SAFETY: the caller's contract; a slot is held once a phase.
            unsafe { Ring::<T>::new(self.cluster).release(self.barriers.empty(self.held)) };
        }
        self.held = NONE;
    }

    /// Adds `steps` steps, at least one, of the slots' first operand and 2 R rows of their second. The last
    /// step's products stay under way, and its slot held.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup call it; the producer loads these steps next.
    #[inline(always)]
    pub(super) unsafe fn multiply<const R: usize>(&mut self, steps: u32, mut sums: Pending<R>) -> Pending<R>
    where
        [f32; R]: Registers,
    {
        let mut left = steps;
        // At least once: with a way around the loop, ptxas sees sums that no product defined, and serialises.
        loop {
            // SAFETY: the slot is full until it is released, which it is when its products are over.
            unsafe {
                let (rows, columns) = self.slot(self.turn);
                sums = sums.multiply_64::<STEP_BYTES>(rows, columns).wait_for_all_but::<1>();
                self.release_previous();
            }
            left -= 1;
            if left == 0 {
                return sums;
            }
        }
    }

    /// Adds `steps` steps, at least one, of W to the first sums and of A to the second, in products of their
    /// own. Both stay under way, and the last slot held.
    ///
    /// # Safety
    ///
    /// As [`multiply`](Self::multiply).
    #[inline(always)]
    pub(super) unsafe fn multiply_apart<const Y: usize, const P: usize>(
        &mut self,
        steps: u32,
        mut y: Pending<Y>,
        mut h: Pending<P>,
    ) -> (Pending<Y>, Pending<P>)
    where
        [f32; Y]: Registers,
        [f32; P]: Registers,
    {
        let mut left = steps;
        loop {
            // SAFETY: the slot is full until it is released; all groups but this step's two are over then.
            unsafe {
                let (rows, columns) = self.slot(self.turn);
                h = h.multiply_64::<STEP_BYTES>(rows, columns.offset(T::A_OFFSET - T::W_OFFSET));
                y = y.multiply_64::<STEP_BYTES>(rows, columns).wait_for_all_but::<2>();
                self.release_previous();
            }
            left -= 1;
            if left == 0 {
                return (y, h);
            }
        }
    }

    /// Adds `steps` steps, at least one, of W to the first sums, and where a step is this CTA's of A to the
    /// second; there x is read once, to registers. All of it stays under way, and the last slot held, by
    /// `slices` if it was this CTA's.
    ///
    /// # Safety
    ///
    /// As [`multiply`](Self::multiply).
    #[inline(always)]
    pub(super) unsafe fn multiply_sliced<const Y: usize, const P: usize>(
        &mut self,
        steps: u32,
        slices: &mut Slices,
        mut y: Pending<Y>,
        mut h: Pending<P>,
    ) -> (Pending<Y>, Pending<P>)
    where
        [f32; Y]: Registers,
        [f32; P]: Registers,
    {
        let mut left = steps;
        loop {
            // SAFETY: the slot is full until it is released; all groups but this step's are over then, and all
            // threads have read x behind the warpgroup's barrier.
            unsafe {
                let (rows, columns) = self.slot(self.turn);
                let is_own = slices.next_is_own();
                if is_own {
                    let x = self.rows_to_registers();
                    // Copies are made into the slot next.
                    fence_proxy_async_shared();
                    sync_warpgroup(self.warpgroup);
                    h = h.multiply_64_of(x, columns.offset(T::A_OFFSET - T::W_OFFSET));
                    y = y.multiply_64_of(x, columns).wait_for_all_but::<2>();
                } else {
                    y = y.multiply_64::<STEP_BYTES>(rows, columns).wait_for_all_but::<1>();
                }
                if slices.held != NONE {
                    Ring::<T>::new(self.cluster).release_read(self.barriers.empty(slices.held));
                }
                self.release_previous();
                slices.held = if is_own { mem::replace(&mut self.held, NONE) } else { NONE };
            }
            left -= 1;
            if left == 0 {
                return (y, h);
            }
        }
    }

    /// This warpgroup's rows of x in the slot.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup call it; the slot is full, and not released before all have read.
    #[inline(always)]
    #[track_caller]
    unsafe fn rows_to_registers(&self) -> Fragments {
        let lane = Lane::new();
        let slot = self.shared.offset(self.turn.place * T::SLOT_BYTES);
        let rows = slot.offset(self.warpgroup * WARPGROUP_ROWS * ROW_BYTES);
        // SAFETY: the caller's contract.
        [0, 1, 2, 3].map(|i| unsafe {
            ldmatrix_x4(chunk_at::<ROW_BYTES>(rows, lane.matrix_row, 2 * i + lane.matrix_chunk))
        })
    }

    /// Adds the next `steps` steps of A, those that are this CTA's, and leaves the slots as they are, as
    /// [`multiply_ahead`](Self::multiply_ahead) does. The slot that was held stays so, and all products under
    /// way.
    ///
    /// # Safety
    ///
    /// As [`multiply_ahead`](Self::multiply_ahead).
    #[inline(always)]
    pub(super) unsafe fn multiply_ahead_sliced<const P: usize>(
        &self,
        steps: u32,
        slices: &mut Slices,
        mut sums: Pending<P>,
    ) -> Pending<P>
    where
        [f32; P]: Registers,
    {
        let mut ahead = self.turn;
        let mut left = steps;
        loop {
            if slices.next_is_own() {
                // SAFETY: the slot is full, and not released before these products are over.
                unsafe {
                    let (rows, columns) = self.slot(ahead);
                    sums = sums.multiply_64::<STEP_BYTES>(rows, columns.offset(T::A_OFFSET - T::W_OFFSET));
                }
            }
            ahead.advance(T::STAGES);
            left -= 1;
            if left == 0 {
                return sums;
            }
        }
    }

    /// Adds `steps` steps, at least one and at most as many as the ring has slots, of the slots' first
    /// operand and the rows of their second from A on, and leaves the slots as they are:
    /// [`multiply`](Self::multiply) comes to them next. The slot that was held is released; the last step's
    /// products stay under way, and no others.
    ///
    /// # Safety
    ///
    /// As [`multiply`](Self::multiply).
    #[inline(always)]
    pub(super) unsafe fn multiply_ahead<const P: usize>(
        &mut self,
        steps: u32,
        mut sums: Pending<P>,
    ) -> Pending<P>
    where
        [f32; P]: Registers,
    {
        let mut ahead = self.turn;
        let mut left = steps;
        loop {
            // SAFETY: the slot is full, and not released before these products are over; those of the
            // slot that is held are.
            unsafe {
                let (rows, columns) = self.slot(ahead);
                let columns = columns.offset(T::A_OFFSET - T::W_OFFSET);
                sums = sums.multiply_64::<STEP_BYTES>(rows, columns).wait_for_all_but::<1>();
                self.release_held();
            }
            ahead.advance(T::STAGES);
            left -= 1;
            if left == 0 {
                return sums;
            }
        }
    }

    /// Adds one step of the expand: h from `h` on, A_STEP bytes from panel to panel, or from the slot where
    /// that is `None`; B from the slot.
    ///
    /// # Safety
    ///
    /// As [`multiply`](Self::multiply); h is complete, and fenced.
    #[inline(always)]
    pub(super) unsafe fn expand<const R: usize, const A_STEP: u32>(
        &mut self,
        chunk: Chunk,
        h: Option<Descriptor>,
        mut sums: Pending<R>,
    ) -> Pending<R>
    where
        [f32; R]: Registers,
    {
        // SAFETY: as in `multiply`.
        unsafe {
            let (rows, columns) = self.slot(self.turn);
            let rows = h.unwrap_or(rows);
            if T::MAX_PANELS == 1 {
                sums = sums.multiply_16(rows, columns);
            } else if chunk.panels * PANEL == BLOCK_K {
                sums = sums.multiply_64::<A_STEP>(rows, columns);
            } else {
                let mut i = 0;
                while i < chunk.panels {
                    sums = sums.multiply_16(rows.offset(i * A_STEP), columns.offset(i * STEP_BYTES));
                    i += 1;
                }
            }
            // All but the newest group are over, those of the slot before among them.
            sums = sums.wait_for_all_but::<1>();
            self.release_previous();
        }
        sums
    }

    /// Waits for all products and releases the last slot.
    ///
    /// # Safety
    ///
    /// All threads of the warpgroup call it.
    #[inline(always)]
    pub(super) unsafe fn finish<const R: usize>(&mut self, sums: Pending<R>) -> Sums<R>
    where
        [f32; R]: Registers,
    {
        // SAFETY: all groups are waited for before the slot is released.
        unsafe {
            let sums = sums.settle::<0>();
            self.release_held();
            sums
        }
    }
}

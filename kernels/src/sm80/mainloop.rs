//! The K loop: a ring of slots in shared memory, filled STAGES − 1 steps ahead, and fragments in registers,
//! loaded one `mma` step ahead.
//!
//! ```text
//! fill slots 0 … STAGES − 2
//! for each step:
//!     first half:   load fragments of the second half; multiply; start filling the slot of the step before
//!     second half:  wait for the next slot, barrier;   load fragments of its first half;        multiply
//! ```
//!
//! One barrier a step does for both directions: it makes the copies of all threads visible, and it says that
//! every warp has loaded the last fragments of this step, so that after it the slot may be filled anew.
//!
//! **The augmented K.** Steps below `base_steps` are columns of x and W; those from there on are columns of h
//! and B, into the same sums. B does not depend on anybody, so the ring runs over into it without a gap. h
//! may not be there yet: the leader looks one step before it is needed, without waiting. If it is there, the
//! ring runs on; if not, the base's steps are computed to the end, and only then does the CTA wait and fetch
//! the h of the slots that already hold their B.

use super::board::Board;
use super::fragments::{
    Place, Sums, columns_at, columns_of_two_steps_at, load_columns, load_columns_of_two_steps, load_rows,
    multiply, rows_at,
};
use super::swizzle::two_chunks_further;
use crate::{
    device::{SharedAddr, bar_sync, cp_async_commit_group, cp_async_wait_group, opaque},
    tile::Tile,
};

/// Bytes of a row in a slot.
const ROW: u32 = 64;

/// Where the operands of each step come from.
pub(super) trait Operands {
    /// Whether there can be steps of h and B.
    const EXPANDS: bool;

    /// Whether there are columns of A to multiply x with, on the side.
    fn makes_h(&self) -> bool {
        false
    }

    /// Starts copying the first operand (x, or h) of the next step to its slot.
    ///
    /// # Safety
    ///
    /// All threads call it; the slot is free; h is visible to this thread.
    unsafe fn copy_first(&mut self, slot: SharedAddr);

    /// Starts copying the second operand (W and A, or B) of the next step to its slot.
    ///
    /// # Safety
    ///
    /// All threads call it; the slot is free.
    unsafe fn copy_second(&mut self, slot: SharedAddr);

    /// Starts copying h of the next step to its slot, where all of x has been copied.
    ///
    /// # Safety
    ///
    /// As [`copy_first`](Self::copy_first).
    unsafe fn copy_h(&mut self, _slot: SharedAddr) {}

    /// Whether h is visible to this thread. The leader's.
    ///
    /// # Safety
    ///
    /// The counters are as [`Lora`](crate::params::Lora) says.
    unsafe fn h_is_ready(&self) -> bool {
        true
    }
}

/// How a product is cut.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    /// Steps of x and W.
    pub base: u32,
    /// Steps of h and B after them.
    pub expand: u32,
    /// Whether the last of them is a half: 16 columns of h.
    pub half: bool,
    /// Fragments of W's columns that this warp multiplies; with PARTIAL alone.
    pub columns: u32,
}

/// Sums of the tile, and of its columns of h.
pub(super) struct Products<const MT: usize, const NT: usize, const HT: usize> {
    pub y: Sums<MT, NT>,
    pub h: Sums<MT, HT>,
}

impl<const MT: usize, const NT: usize, const HT: usize> Products<MT, NT, HT> {
    #[inline(always)]
    pub(super) fn zero() -> Self {
        Self { y: Sums::zero(), h: Sums::zero() }
    }
}

/// Runs the loop and adds to `products`. `ring` has RING_BYTES. Leaves nothing under way; other warps may
/// still read the ring, so a barrier has to come before it is written.
///
/// # Safety
///
/// All threads of the CTA call it with the same steps; nobody else uses `ring`; what `operands` says is true.
#[inline(always)]
pub(super) unsafe fn mainloop<
    T: Tile,
    O: Operands,
    const MT: usize,
    const NT: usize,
    const HT: usize,
    const PARTIAL: bool,
>(
    place: Place,
    operands: &mut O,
    steps: Steps,
    products: &mut Products<MT, NT, HT>,
    ring: SharedAddr,
    board: Board,
) {
    const {
        assert!(MT as u32 * 16 * T::WARPS_M == T::BLOCK_M && NT as u32 * 8 * T::WARPS_N == T::BLOCK_N);
        assert!(HT as u32 * 8 * T::WARPS_N == T::H);
        assert!(ROW == T::BLOCK_K * 2);
    }
    let leader = place.thread == 0;
    let total = steps.base + steps.expand;
    let makes_h = HT > 0 && operands.makes_h();

    // Whether h was there in time.
    let mut h_ahead = steps.base == 0;

    // SAFETY: a slot is filled after the barrier that follows its last read, and read after the barrier that
    // follows the wait for its copies; steps are the same for all threads, so that all take the same way.
    unsafe {
        let mut step = 0;
        // Opaque, so that the loop stays one: three copies of it cost registers and instruction cache, and no
        // time is lost here.
        let filled = opaque(T::STAGES - 1);
        loop {
            operands.copy_second(ring.offset(step * T::SLOT_BYTES));
            if !O::EXPANDS || step < steps.base || h_ahead {
                operands.copy_first(ring.offset(step * T::SLOT_BYTES));
            }
            cp_async_commit_group();
            step += 1;
            if step >= filled {
                break;
            }
        }
        wait_for_oldest::<T>();
        bar_sync();

        // Where this lane finds its fragments in slot 0; the other half of a slot is an XOR away.
        let x_at = rows_at::<ROW>(ring, place.row, place.lane);
        let w_at = columns_at::<ROW>(ring.offset(T::BLOCK_M * ROW), place.column * NT as u32 * 8, place.lane);
        let a_at = columns_of_two_steps_at::<ROW>(
            ring.offset((T::BLOCK_M + T::BLOCK_N) * ROW),
            place.column * HT as u32 * 8,
            place.lane,
        );
        let mut x = [load_rows::<ROW, MT>(x_at), [[0; 4]; MT]];
        let mut w = [load_columns::<ROW, NT>(w_at), [[0; 2]; NT]];
        let mut a = [[[0; 2]; HT]; 2];

        // Slots by their offset: of this step, of the next, of the one that is being filled.
        let (mut here, mut filling) = (0, (T::STAGES - 1) * T::SLOT_BYTES);
        let mut step = 0;
        while step < total {
            // First half.
            x[1] = load_rows::<ROW, MT>(two_chunks_further(x_at).offset(here));
            w[1] = load_columns::<ROW, NT>(two_chunks_further(w_at).offset(here));
            if makes_h {
                a = load_columns_of_two_steps::<ROW, HT>(a_at.offset(here));
            }
            multiply::<MT, NT, PARTIAL>(&mut products.y, &x[0], &w[0], steps.columns);
            if makes_h {
                multiply::<MT, HT, false>(&mut products.h, &x[0], &a[0], 0);
            }
            // Behind the last step these are zeros that nobody reads: cheaper than a branch.
            operands.copy_second(ring.offset(filling));
            let ahead = step + T::STAGES - 1;
            if !O::EXPANDS || ahead < steps.base || h_ahead || step >= steps.base {
                operands.copy_first(ring.offset(filling));
            }
            cp_async_commit_group();

            // Second half.
            if step + 1 < total {
                if O::EXPANDS && step + 1 == steps.base && !h_ahead {
                    fetch_late_h::<T, O>(operands, ring, next_slot::<T>(here), leader);
                } else {
                    let decide = O::EXPANDS && steps.expand > 0 && step + T::STAGES == steps.base;
                    if decide && leader {
                        board.set_ready(operands.h_is_ready());
                    }
                    wait_for_oldest::<T>();
                    bar_sync();
                    if decide {
                        h_ahead = board.ready();
                    }
                }
                filling = here;
                here = next_slot::<T>(here);
                x[0] = load_rows::<ROW, MT>(x_at.offset(here));
                w[0] = load_columns::<ROW, NT>(w_at.offset(here));
            }
            let half = O::EXPANDS && step + 1 == total && steps.half;
            if !half {
                multiply::<MT, NT, PARTIAL>(&mut products.y, &x[1], &w[1], steps.columns);
                if makes_h {
                    multiply::<MT, HT, false>(&mut products.h, &x[1], &a[1], 0);
                }
            }
            step += 1;
        }
        // The zeros behind the last step.
        cp_async_wait_group::<0>();
    }
}

/// Waits for h, and fetches it for the slots that hold their B already.
///
/// # Safety
///
/// As [`mainloop`]; the last step of the base is in registers but for what is under way.
#[inline(always)]
unsafe fn fetch_late_h<T: Tile, O: Operands>(
    operands: &mut O,
    ring: SharedAddr,
    first_slot: u32,
    leader: bool,
) {
    // SAFETY: all threads are here; after the barrier what the leader acquired is visible to all.
    unsafe {
        if leader {
            while !operands.h_is_ready() {}
        }
        bar_sync();
        let (mut step, mut slot) = (0, first_slot);
        let filled = opaque(T::STAGES - 1);
        loop {
            operands.copy_h(ring.offset(slot));
            slot = next_slot::<T>(slot);
            step += 1;
            if step >= filled {
                break;
            }
        }
        cp_async_commit_group();
        cp_async_wait_group::<0>();
        bar_sync();
    }
}

/// The slot behind one, by their offsets.
#[inline(always)]
fn next_slot<T: Tile>(slot: u32) -> u32 {
    if slot == (T::STAGES - 1) * T::SLOT_BYTES { 0 } else { slot + T::SLOT_BYTES }
}

/// Waits until the oldest step of the ring is there.
#[inline(always)]
#[track_caller]
unsafe fn wait_for_oldest<T: Tile>() {
    // SAFETY: no precondition.
    unsafe {
        match T::STAGES {
            2 => cp_async_wait_group::<0>(),
            3 => cp_async_wait_group::<1>(),
            _ => cp_async_wait_group::<2>(),
        }
    }
    const { assert!(T::STAGES >= 2 && T::STAGES <= 4) };
}

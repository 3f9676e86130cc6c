//! Products of a warpgroup, with R registers of sums: 64 rows of a by N = 2 R rows of b. Input: the shared
//! memory where operands lie, in their swizzles. Output: the R sums of each lane.

use super::staging::fill;
use crate::{
    device::{
        Descriptor, Pending, Registers, STEP_BYTES, Sums, bar_sync, fence_proxy_async_shared, ldmatrix_x4,
    },
    instructions::item::Item,
    sm80::swizzle::chunk_at,
};

/// Bytes of a, 64 rows of 64 columns.
const A: u32 = 64 * 128;
/// Bytes of 16 of its columns as a panel, 64 rows of 32 bytes.
const PANEL: u32 = 64 * 32;

/// Puts input words from `word` on where `bytes` from `at` on are in shared memory, for `wgmma`.
///
/// # Safety
///
/// All lanes call it; the bytes are not in use.
#[inline(always)]
#[track_caller]
unsafe fn place(item: Item, word: u32, at: u32, bytes: u32) {
    // SAFETY: the caller's contract; all lanes fence what they wrote before the barrier.
    unsafe {
        fill(item, word, item.shared.offset(at), bytes);
        fence_proxy_async_shared();
        bar_sync();
    }
}

/// The sums of this lane, to its words of the output.
///
/// # Safety
///
/// The item has R words for each lane.
#[inline(always)]
#[track_caller]
unsafe fn store<const R: usize>(item: Item, sums: &Sums<R>) {
    let registers = sums.registers();
    let to = item.output_at(R as u32 * item.lane).cast::<[u32; 4]>();
    let mut i = 0;
    while i < R / 4 {
        let [a, b, c, d] =
            [registers[4 * i], registers[4 * i + 1], registers[4 * i + 2], registers[4 * i + 3]];
        // SAFETY: the lane's own words.
        unsafe { to.offset(i as u64).store([a, b, c, d].map(f32::to_bits)) };
        i += 1;
    }
}

/// Input: a and b, 64 columns in rows of 128 bytes.
#[inline(always)]
pub(in crate::instructions) unsafe fn multiply_64<const R: usize>(item: Item)
where
    [f32; R]: Registers,
{
    // SAFETY: all lanes come to everything; both operands are fenced and stay.
    unsafe {
        place(item, 0, 0, A + 256 * R as u32);
        let (a, b) = (item.shared, item.shared.offset(A));
        let sums = Pending::from_sums(Sums::<R>::zero());
        let sums = sums.multiply_64::<STEP_BYTES>(Descriptor::rows_of_128(a), Descriptor::rows_of_128(b));
        store(item, &sums.settle::<0>());
    }
}

/// Input: a and b, 64 columns in rows of 128 bytes; a goes through registers.
#[inline(always)]
pub(in crate::instructions) unsafe fn multiply_64_of<const R: usize>(item: Item)
where
    [f32; R]: Registers,
{
    // SAFETY: all lanes come to everything; both operands are fenced and stay.
    unsafe {
        place(item, 0, 0, A + 256 * R as u32);
        let (a, b) = (item.shared, item.shared.offset(A));
        let row = item.lane / 32 * 16 + item.lane % 16;
        let a = [0, 2, 4, 6].map(|i| ldmatrix_x4(chunk_at::<128>(a, row, i + item.lane % 32 / 16)));
        let sums = Pending::from_sums(Sums::<R>::zero()).multiply_64_of(a, Descriptor::rows_of_128(b));
        store(item, &sums.settle::<0>());
    }
}

/// Input: a and b, 16 columns in rows of 32 bytes.
#[inline(always)]
pub(in crate::instructions) unsafe fn multiply_16<const R: usize>(item: Item)
where
    [f32; R]: Registers,
{
    // SAFETY: all lanes come to everything; both operands are fenced and stay.
    unsafe {
        place(item, 0, 0, PANEL + 64 * R as u32);
        let (a, b) = (item.shared, item.shared.offset(PANEL));
        let sums = Pending::from_sums(Sums::<R>::zero());
        let sums = sums.multiply_16(Descriptor::rows_of_32(a), Descriptor::rows_of_32(b));
        store(item, &sums.settle::<0>());
    }
}

/// A chain of three groups, one of them under way while another begins: 64 columns of a in panels, 16 in a
/// panel, 64 in rows, which lie where the first ones lay. Input: the first a, four panels of rows of 32
/// bytes; the second, a panel; b, 64 columns in rows of 128 bytes, of which the second product takes the
/// columns from 16 on; the third a, in rows of 128 bytes.
#[inline(always)]
pub(in crate::instructions) unsafe fn chain<const R: usize>(item: Item)
where
    [f32; R]: Registers,
{
    let b_at = A + PANEL;
    let end = b_at + 256 * R as u32;
    // SAFETY: all lanes come to everything; operands are fenced, and stay until their group has been waited
    // for.
    unsafe {
        place(item, 0, 0, end);
        let (a, b) = (item.shared, Descriptor::rows_of_128(item.shared.offset(b_at)));
        let panel = Descriptor::rows_of_32(a.offset(A));
        let sums = Pending::from_sums(Sums::<R>::zero()).multiply_64::<PANEL>(Descriptor::rows_of_32(a), b);
        let sums = sums.multiply_16(panel, b.offset(STEP_BYTES)).wait_for_all_but::<1>();
        // All warps have waited for the first group when they come out of this.
        bar_sync();
        place(item, end / 4, 0, A);
        let sums = sums.multiply_64::<STEP_BYTES>(Descriptor::rows_of_128(a), b);
        store(item, &sums.settle::<0>());
    }
}

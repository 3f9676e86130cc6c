//! q kᵀ and weights · v of a warp: 16 queries, and a block of keys.

use crate::{
    device::{SharedAddr, ldmatrix_x4_trans, mma_m16n8k16_f16, pack_f16x2, shfl_bfly},
    sm80::fragments::{Sums, load_columns, multiply},
    tile::ATTENTION_BLOCK,
};

/// Fragments of 8 keys in a block.
pub(super) const KEY_FRAGMENTS: usize = ATTENTION_BLOCK as usize / 8;

/// Keys of a step of weights · v.
const STEP: u32 = 16;

/// Scores of a block: q kᵀ, not scaled. With DIAGONAL, those of the warp's own queries and of keys before
/// them; the others are 0.
///
/// # Safety
///
/// All lanes of the warp call it with its number, and with `k_at` from `columns_at`; no write races with the
/// tile.
#[inline(always)]
pub(super) unsafe fn scores<const ROW: u32, const KT: usize, const DIAGONAL: bool>(
    q: &[[u32; 4]; KT],
    k_at: SharedAddr,
    warp: u32,
) -> Sums<1, KEY_FRAGMENTS> {
    let mut scores = Sums::zero();
    let mut step = 0;
    while step < KT {
        // SAFETY: the caller's contract. Two chunks further along a row is an XOR away.
        unsafe {
            let k = load_columns::<ROW, KEY_FRAGMENTS>(k_at.xor(32 * step as u32));
            multiply::<1, KEY_FRAGMENTS, DIAGONAL>(&mut scores, &[q[step]], &k, 2 * (warp + 1));
        }
        step += 1;
    }
    scores
}

/// Hides keys from the queries before them: their scores become −∞. Block of queries and block of keys are
/// the same.
#[inline(always)]
pub(super) fn mask(scores: &mut Sums<1, KEY_FRAGMENTS>, warp: u32, lane: u32) {
    let (row, column) = (16 * warp + lane / 4, 2 * (lane % 4));
    let mut n = 0;
    while n < KEY_FRAGMENTS {
        let mut i = 0;
        while i < 4 {
            let (query, key) = (row + 8 * (i as u32 / 2), column + 8 * n as u32 + i as u32 % 2);
            if key > query {
                scores.0[0][n][i] = f32::NEG_INFINITY;
            }
            i += 1;
        }
        n += 1;
    }
}

/// Adds weights · v of a block to `sums`. With DIAGONAL, of keys up to the warp's own queries; what v has for
/// the keys behind a query is not seen by it, whatever it is.
///
/// # Safety
///
/// All lanes of the warp call it with its number, and with `v_at` from `rows_at`; no write races with the
/// tile.
#[inline(always)]
pub(super) unsafe fn add_values<const ROW: u32, const NT: usize, const DIAGONAL: bool>(
    sums: &mut Sums<1, NT>,
    weights: &Sums<1, KEY_FRAGMENTS>,
    v_at: SharedAddr,
    warp: u32,
    lane: u32,
) {
    let mut step = 0;
    while step < KEY_FRAGMENTS / 2 {
        // SAFETY: the caller's contract; whether a step is skipped is the same for all lanes of the warp.
        unsafe {
            if !DIAGONAL || step as u32 <= warp {
                let weights = as_operand(weights, step);
                let v_at = v_at.offset(STEP * ROW * step as u32);
                if DIAGONAL && step as u32 == warp {
                    let v = load_values::<ROW, NT>(v_at);
                    if any_lane(!is_finite(&v)) {
                        add_visible(sums, weights, &v, lane);
                        // The steps behind are those of later queries.
                        return;
                    }
                }
                add_step::<NT>(sums, weights, v_at);
            }
        }
        step += 1;
    }
}

/// Weights of 16 keys as the first operand: a pair of sums is what a register of it holds, rounded to f16.
#[inline(always)]
fn as_operand(weights: &Sums<1, KEY_FRAGMENTS>, step: usize) -> [u32; 4] {
    let ([a, b, c, d], [e, f, g, h]) = (weights.0[0][2 * step], weights.0[0][2 * step + 1]);
    [pack_f16x2(a, b), pack_f16x2(c, d), pack_f16x2(e, f), pack_f16x2(g, h)]
}

/// Adds weights · v of 16 keys, two fragments of v at a time: all of them at once would be the registers that
/// are missing.
///
/// # Safety
///
/// As [`add_values`].
#[inline(always)]
unsafe fn add_step<const NT: usize>(sums: &mut Sums<1, NT>, weights: [u32; 4], v_at: SharedAddr) {
    let mut i = 0;
    while i < NT / 2 {
        // SAFETY: the caller's contract.
        unsafe {
            let [a, b, c, d] = ldmatrix_x4_trans(v_at.xor(32 * i as u32));
            sums.0[0][2 * i] = mma_m16n8k16_f16(weights, [a, b], sums.0[0][2 * i]);
            sums.0[0][2 * i + 1] = mma_m16n8k16_f16(weights, [c, d], sums.0[0][2 * i + 1]);
        }
        i += 1;
    }
}

/// Fragments of 16 keys × 8 columns of v, whose keys are rows of the tile: hence transposed.
///
/// # Safety
///
/// As [`add_values`].
#[inline(always)]
unsafe fn load_values<const ROW: u32, const NT: usize>(at: SharedAddr) -> [[u32; 2]; NT] {
    let mut fragments = [[0; 2]; NT];
    let mut i = 0;
    while i < NT / 2 {
        // SAFETY: the caller's contract.
        let [a, b, c, d] = unsafe { ldmatrix_x4_trans(at.xor(32 * i as u32)) };
        (fragments[2 * i], fragments[2 * i + 1]) = ([a, b], [c, d]);
        i += 1;
    }
    fragments
}

/// Whether none of the f16 is NaN or infinite: has an exponent of ones, which a carry from it shows.
#[inline(always)]
fn is_finite<const NT: usize>(v: &[[u32; 2]; NT]) -> bool {
    let mut carries = 0;
    let mut n = 0;
    while n < NT {
        carries |= (v[n][0] & 0x7c00_7c00) + 0x0400_0400;
        carries |= (v[n][1] & 0x7c00_7c00) + 0x0400_0400;
        n += 1;
    }
    carries & 0x8000_8000 == 0
}

/// Whether it holds for a lane of the warp.
///
/// # Safety
///
/// All lanes of the warp call it.
#[inline(always)]
unsafe fn any_lane(holds: bool) -> bool {
    let mut any = u32::from(holds);
    let mut mask = 16;
    while mask > 0 {
        // SAFETY: the caller's contract.
        any |= unsafe { shfl_bfly(any, mask) };
        mask /= 2;
    }
    any != 0
}

/// Adds weights · v of the 16 keys that are the warp's queries, key by key, each to the queries from it on
/// alone: the weights of the others are 0, and 0 · ∞ is NaN. Slow, and only for a v that is not finite.
///
/// # Safety
///
/// All lanes of the warp call it.
#[inline(always)]
unsafe fn add_visible<const NT: usize>(
    sums: &mut Sums<1, NT>,
    weights: [u32; 4],
    v: &[[u32; 2]; NT],
    lane: u32,
) {
    let row = lane / 4;
    let mut key = 0;
    while key < STEP {
        // The key is in two registers' places of the lanes of one column in four; all other keys become 0.
        let own = if key % 8 / 2 == lane % 4 { 0xffff << (16 * (key % 2)) } else { 0 };
        let keep = if key < 8 { [own, 0] } else { [0, own] };
        let mut n = 0;
        while n < NT {
            let v = [v[n][0] & keep[0], v[n][1] & keep[1]];
            let [a, b, c, d] = sums.0[0][n];
            // SAFETY: the caller's contract.
            let [e, f, g, h] = unsafe { mma_m16n8k16_f16(weights, v, [a, b, c, d]) };
            let (first, second) = (key <= row, key <= row + 8);
            sums.0[0][n] = [
                if first { e } else { a },
                if first { f } else { b },
                if second { g } else { c },
                if second { h } else { d },
            ];
            n += 1;
        }
        key += 1;
    }
}

//! Causal self-attention on tensor cores, without the matrix of scores: FlashAttention-2 (Dao 2023, arXiv
//! 2307.08691).
//!
//! ```text
//! for each sequence, head and block of 64 queries:          a CTA; a warp for each 16 queries
//!     for each block of 64 keys up to the queries':
//!         S = q kᵀ                                          mma, f32
//!         P = 2^(scale · S − maximum so far)                f32, rounded to f16
//!         sums = sums · 2^(maximum before − now) + P v      mma, f32
//!     y = f16( sums / sum of P )
//! ```
//!
//! | file | job |
//! |---|---|
//! | `tiles.rs` | blocks of q, k and v on their way to shared memory |
//! | `products.rs` | q kᵀ, the mask, P v |
//! | `softmax.rs` | maximum and sum of rows whose scores come block by block |
//! | `store.rs` | rows of y |
//!
//! S of a warp is in the registers where P must be: what `mma` gives as a pair of sums is a register of its
//! first operand. q is read once, through the slot that the second block fills later, and stays in registers.
//! Two slots hold a block of k and of v each; one barrier a block says both that this block's copies are
//! there and that nobody reads the slot that is filled next. The last block of keys is that of the queries:
//! the only one that needs a mask, and where each warp leaves out the keys behind its own queries. It has a
//! body of its own. Items are numbered from the last queries on, so that the longest are dispatched first.
//!
//! # What a query sees
//!
//! Keys behind a query are never seen: their scores are replaced, not multiplied, and where a value of v is
//! not finite among the 16 keys that are a warp's own queries, products are made key by key (`products.rs`).
//! NaN or infinity in q, in a k or in a v that a query sees make NaN or infinities in that query's row of y,
//! in no other. (An infinite v: infinity of its sign, or NaN where the weight rounds to 0. A score of +∞
//! makes NaN; one of −∞ is a key of weight 0; rows that have no other are NaN, as the softmax of PyTorch has
//! it.)
//!
//! # What it should take
//!
//! A block of 64 × 64 and 64 columns is 524,288 multiply-adds, 512 cycles of an A100's tensor cores (1,024 a
//! cycle and SM, published peak), and 4,096 exponentials, 256 cycles of its special function units (16 a
//! cycle and SM). Warps of three CTAs overlap them in part: the floor is the 512, what to expect some 700. A
//! diagonal block costs 5/8 of the `mma` and all of the exponentials.
//!
//! GPT-2 medium's attention at M = 2048, 8 sequences of 256 and 16 heads: 0.57 G multiply-adds, 3.7 µs at 312
//! TFLOP/s, beside the 165 µs of the layer's products; 2.2 µs of exponentials; 16 MiB of qkv and y, 11 µs
//! from DRAM, but qkv has just been written and stays in L2; 24 MiB through L2, since a block of keys is read
//! by each block of queries behind it, 5 µs at 5 TB/s. 512 CTAs of 1 to 4 blocks are 1.6 waves of 3 an SM. To
//! expect: 7 to 10 µs.
//!
//! No step below has been measured.
//!
//! - q in registers instead of shared memory: 4 of 36 `ldmatrix` a block fewer, and 8 KiB, so that 3 CTAs fit
//!   an SM of 99 KiB;
//! - two slots instead of one: a block's copies (16 KiB: 250 cycles at 64 bytes a cycle, and 600 of latency)
//!   under the block before: up to 1.5 × where one CTA is resident, 1.1 × with three;
//! - longest first: the tail of a launch is a block of keys instead of all: up to 15 % at 4 blocks a
//!   sequence;
//! - a warp leaves out keys behind its queries: 3/8 of the diagonal blocks' `mma`: 25 % at 2 blocks a
//!   sequence, 15 % at 4.
//!
//! Not built:
//!
//! - 4 CTAs an SM instead of 3, 128 registers: 1.1 × at most; ptxas spills 16 bytes;
//! - 128 queries a CTA of 8 warps: half the reads of k and v from L2; needs seq_len ≥ 256 to fill SMs;
//! - the exponentials of one block beside the `mma` of the next: up to 1.3 × where the special function units
//!   wait (FlashAttention-3).

mod products;
mod softmax;
mod store;
mod tiles;

use core::hint::assert_unchecked;

use self::{
    products::{add_values, mask, scores},
    softmax::Softmax,
    store::{Target, store},
    tiles::Reader,
};
use super::{
    chunks,
    fragments::{Sums, columns_at, rows_at},
};
use crate::{
    device::{
        SharedAddr, bar_sync, block_idx_x, cp_async_commit_group, cp_async_wait_group, dynamic_shared,
        ldmatrix_x4, opaque, thread_idx_x,
    },
    layer_params::AttentionParams,
    tile::{ATTENTION_BLOCK, ATTENTION_THREADS, WARP},
};

/// Queries of a warp.
const WARP_QUERIES: u32 = 16;

/// `y = softmax(scale · q kᵀ, causal) v` for each sequence and head.
///
/// # Parameters
///
/// [`AttentionParams`]: any number of sequences and heads, any length; `head_dim` up to ROW / 2.
///
/// # Tiling
///
/// ROW is the number of bytes of a row of a tile, NT and KT how many fragments of 8 and of 16 columns that
/// is.
///
/// # Safety
///
/// The operands are as [`AttentionParams`] says; launched with `ATTENTION_THREADS` threads, 256 · ROW bytes
/// of dynamic shared memory, and a CTA for each block of queries of each head of each sequence.
#[inline(always)]
pub unsafe fn attention<const ROW: u32, const NT: usize, const KT: usize>(params: AttentionParams) {
    const { assert!(NT as u32 * 16 == ROW && KT as u32 * 32 == ROW) };
    let thread = thread_idx_x();
    let (warp, lane) = (thread / WARP, thread % WARP);
    let Item { block: query_block, head, sequence } = Item::of_this_cta(&params);

    let first_row = u64::from(sequence) * u64::from(params.seq_len);
    let first_query = query_block * ATTENTION_BLOCK;
    let queries = params.seq_len - first_query;
    let width = u64::from(params.heads) * u64::from(params.head_dim);
    let column = u64::from(head) * u64::from(params.head_dim);
    let reader = |row: u64, part: u64, rows: u32| {
        let first = params.qkv.offset(row * u64::from(params.ld_qkv) + part * width + column);
        Reader::<ROW>::new(thread, first, params.ld_qkv, rows, params.head_dim)
    };
    let (mut k, mut v) = (reader(first_row, 1, params.seq_len), reader(first_row, 2, params.seq_len));
    let slots = Slots::<ROW>(dynamic_shared());

    // SAFETY: the head's rows are readable. A tile is filled after the barrier that follows its last read,
    // and read after the one that follows the wait for its copies. All threads go through the same blocks.
    unsafe {
        reader(first_row + u64::from(first_query), 0, queries).copy(slots.k(1));
        k.copy(slots.k(0));
        v.copy(slots.v(0));
        cp_async_commit_group();
        cp_async_wait_group::<0>();
        bar_sync();
        let q = load_queries::<ROW, KT>(rows_at::<ROW>(slots.k(1), warp * WARP_QUERIES, lane));

        let mut sums = Sums::<1, NT>::zero();
        let mut softmax = Softmax::new();
        let mut block = 0;
        while block < query_block {
            // The first time: everybody has read its queries.
            cp_async_wait_group::<0>();
            bar_sync();
            k.copy(slots.k(block + 1));
            v.copy(slots.v(block + 1));
            cp_async_commit_group();
            step::<ROW, NT, KT, false>(&q, slots, block, warp, lane, params.scale, &mut softmax, &mut sums);
            block += 1;
        }
        cp_async_wait_group::<0>();
        bar_sync();
        // Anew, so that they did not wait in registers.
        let thread = opaque(thread_idx_x());
        // No code for steps of a warp that is not there.
        assert_unchecked(thread < ATTENTION_THREADS);
        let (warp, lane) = (thread / WARP, thread % WARP);
        step::<ROW, NT, KT, true>(&q, slots, block, warp, lane, params.scale, &mut softmax, &mut sums);

        let row = warp * WARP_QUERIES;
        let first = (first_row + u64::from(first_query + row)) * u64::from(params.ldy) + column;
        let target = Target {
            first: params.y.offset(first),
            stride: params.ldy,
            rows: queries.saturating_sub(row),
            columns: params.head_dim,
            aligned: chunks::aligned(params.y, params.ldy),
        };
        // Nobody has touched the other slot since the last barrier.
        store::<ROW, NT>(&sums, softmax.normalisers(), slots.k(block + 1).offset(row * ROW), target, lane);
    }
}

/// Scores, weights and their products with v of one block of keys. DIAGONAL: the block of the queries
/// themselves.
///
/// # Safety
///
/// All threads of the CTA call it; k and v of the block are in its slot, and no write races with them.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "all of them are registers of one loop")]
unsafe fn step<const ROW: u32, const NT: usize, const KT: usize, const DIAGONAL: bool>(
    q: &[[u32; 4]; KT],
    slots: Slots<ROW>,
    block: u32,
    warp: u32,
    lane: u32,
    scale: f32,
    softmax: &mut Softmax,
    sums: &mut Sums<1, NT>,
) {
    // SAFETY: the caller's contract.
    unsafe {
        let mut weights = scores::<ROW, KT, DIAGONAL>(q, columns_at::<ROW>(slots.k(block), 0, lane), warp);
        if DIAGONAL {
            mask(&mut weights, warp, lane);
        }
        let [first, second] = softmax.weigh(&mut weights, scale);
        let mut n = 0;
        while n < NT {
            let [a, b, c, d] = sums.0[0][n];
            sums.0[0][n] = [a * first, b * first, c * second, d * second];
            n += 1;
        }
        let v_at = rows_at::<ROW>(slots.v(block), 0, lane);
        add_values::<ROW, NT, DIAGONAL>(sums, &weights, v_at, warp, lane);
    }
}

/// The queries of a warp, as first operands.
///
/// # Safety
///
/// All lanes of the warp call it with what `rows_at` gave; no write races with the tile.
#[inline(always)]
unsafe fn load_queries<const ROW: u32, const KT: usize>(at: SharedAddr) -> [[u32; 4]; KT] {
    let mut q = [[0; 4]; KT];
    let mut i = 0;
    while i < KT {
        // SAFETY: the caller's contract. Two chunks further along a row is an XOR away.
        q[i] = unsafe { ldmatrix_x4(at.xor(32 * i as u32)) };
        i += 1;
    }
    q
}

/// Two slots of shared memory, each with a tile of k and one of v; blocks of keys alternate.
#[derive(Clone, Copy)]
struct Slots<const ROW: u32>(SharedAddr);

impl<const ROW: u32> Slots<ROW> {
    const TILE: u32 = ATTENTION_BLOCK * ROW;

    #[inline(always)]
    fn k(self, block: u32) -> SharedAddr {
        self.0.offset(block % 2 * (2 * Self::TILE))
    }

    #[inline(always)]
    fn v(self, block: u32) -> SharedAddr {
        self.k(block).offset(Self::TILE)
    }
}

/// A work item.
struct Item {
    /// Block of queries.
    block: u32,
    head: u32,
    sequence: u32,
}

impl Item {
    /// This CTA's: all heads and sequences of the last block first, since it sees the most keys.
    #[inline(always)]
    fn of_this_cta(params: &AttentionParams) -> Self {
        let blocks = params.seq_len.div_ceil(ATTENTION_BLOCK);
        // They are at least 1, which the compiler does not know: it would keep a panic.
        let heads = params.heads.max(1);
        let alike = (heads * params.sequences).max(1);
        let (index, of_block) = (block_idx_x() / alike, block_idx_x() % alike);
        Self { block: blocks - 1 - index, head: of_block % heads, sequence: of_block / heads }
    }
}

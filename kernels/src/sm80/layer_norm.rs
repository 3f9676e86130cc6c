//! LayerNorm, row by row: a warp for each.
//!
//! The first [`HELD`] chunks of each lane stay in registers, 1,024 columns of a row, so that such a row is
//! read once; what is behind them is read three times, twice from L1. The variance is the mean of squared
//! *differences*: that of squares less the square of the mean loses all digits where the mean is large.
//!
//! # What it should take
//!
//! It moves 4 bytes an element, so memory is the floor: 8 MiB at M = 2048 and 1,024 columns are 5.4 µs at the
//! 1,555 GB/s of an A100, 2.5 µs at an H100's 3,350, less where x comes from L2. Some 330 instructions a row
//! and lane are 1.1 µs of issue slots there.
//!
//! No step below has been measured.
//!
//! - a row in registers instead of three reads: L1 gives 64 bytes a cycle and SM, so that two reads more are
//!   0.9 µs at 2048 × 1024 on 108 SMs, partly hidden;
//! - four chunks a lane on their way at once: 19 warps an SM at M = 2048 have 38 KiB under way instead of
//!   9.5; DRAM's 14 bytes a cycle over 800 cycles want 11.5: 1.2 ×;
//! - 16 bytes a load instead of 2: 150 instructions a lane less, 0.5 µs of issue slots.

use super::{chunks, swizzle::CHUNK_ELEMENTS};
use crate::{
    Global,
    device::{block_idx_x, f16_to_f32, fma, pack_f16x2, rsqrt_approx, thread_idx_x},
    layer_params::LayerNormParams,
    tile::{LAYER_NORM_ROWS, WARP},
};

/// Chunks of a row that a lane holds.
const HELD: usize = 4;
/// Columns that a warp takes at a time.
const GROUP: u32 = HELD as u32 * WARP * CHUNK_ELEMENTS;

/// Chunks of a group that are a lane's.
type Group = [[u32; 4]; HELD];

/// `y = (x − mean) / √(variance + ε) · γ + β` for each row.
///
/// A NaN or infinity in a row of x makes that row NaN, and no other.
///
/// # Parameters
///
/// [`LayerNormParams`]: any number of rows and columns, any strides.
///
/// # Safety
///
/// The operands are as [`LayerNormParams`] says; launched with [`LAYER_NORM_ROWS`] warps, and so many CTAs
/// that all rows have one.
#[inline(always)]
pub unsafe fn layer_norm(params: LayerNormParams) {
    let thread = thread_idx_x();
    let row = block_idx_x() * LAYER_NORM_ROWS + thread / WARP;
    if row >= params.rows {
        return;
    }
    let lane = thread % WARP;
    let row_of = |matrix: Global<u16>, stride: u32| Row {
        first: matrix.offset(u64::from(row) * u64::from(stride)),
        columns: params.columns,
        lane,
        aligned: chunks::aligned(matrix, stride),
    };
    let (x, y) = (row_of(params.x, params.ldx), row_of(params.y, params.ldy));
    let vector = |first: Global<u16>| Row { first, columns: params.columns, lane, aligned: true };
    let (gamma, beta) = (vector(params.gamma), vector(params.beta));

    // SAFETY: the row is there, and this warp's alone; γ and β have whole chunks; the row is the same for all
    // lanes, so that all of them come to the sums.
    unsafe {
        let held = x.load(0);
        let mut sum = 0.0;
        x.for_each_group(&held, |_, group| {
            each(group, |_, _, element| sum += element);
        });
        let mean = chunks::sum_over(sum, WARP) * params.reciprocal;

        let mut squares = 0.0;
        x.for_each_group(&held, |column, group| {
            each(group, |i, j, element| {
                // The zeros behind the last column are not part of the row.
                let difference = if j < x.present(column, i) { element - mean } else { 0.0 };
                squares = fma(difference, difference, squares);
            });
        });
        let variance = chunks::sum_over(squares, WARP) * params.reciprocal;
        let scale = rsqrt_approx(variance + params.epsilon);

        let finish = Finish { y, gamma, beta, mean, scale };
        x.for_each_group(&held, |column, group| finish.group(column, group));
    }
}

/// What makes y of x.
struct Finish {
    y: Row,
    gamma: Row,
    beta: Row,
    mean: f32,
    /// One over the root of the variance.
    scale: f32,
}

impl Finish {
    /// Finishes and stores the lane's chunks of the group from `column` on.
    ///
    /// # Safety
    ///
    /// γ and β are readable, y is writable, and nobody else touches these chunks of it.
    #[inline(always)]
    #[track_caller]
    unsafe fn group(&self, column: u32, group: &Group) {
        let mut i = 0;
        while i < HELD {
            // SAFETY: the caller's contract.
            unsafe {
                let (gamma, beta) =
                    (self.gamma.load_whole_chunk(column, i), self.beta.load_whole_chunk(column, i));
                let words = [
                    self.pair(group[i][0], gamma[0], beta[0]),
                    self.pair(group[i][1], gamma[1], beta[1]),
                    self.pair(group[i][2], gamma[2], beta[2]),
                    self.pair(group[i][3], gamma[3], beta[3]),
                ];
                self.y.store_chunk(column, i, words);
            }
            i += 1;
        }
    }

    /// Two elements of y from those of x, γ and β.
    #[inline(always)]
    fn pair(&self, x: u32, gamma: u32, beta: u32) -> u32 {
        let one = |x: u32, gamma: u32, beta: u32| {
            let normal = (f16_to_f32(x as u16) - self.mean) * self.scale;
            fma(normal, f16_to_f32(gamma as u16), f16_to_f32(beta as u16))
        };
        pack_f16x2(one(x, gamma, beta), one(x >> 16, gamma >> 16, beta >> 16))
    }
}

/// A row, as one lane of its warp sees it.
#[derive(Clone, Copy)]
struct Row {
    first: Global<u16>,
    columns: u32,
    lane: u32,
    /// Whether its chunks are multiples of 16 bytes.
    aligned: bool,
}

impl Row {
    /// The first column of chunk `i` of the group from `column` on.
    #[inline(always)]
    fn column(&self, column: u32, i: usize) -> u32 {
        column + (i as u32 * WARP + self.lane) * CHUNK_ELEMENTS
    }

    /// How many elements of that chunk there are.
    #[inline(always)]
    fn present(&self, column: u32, i: usize) -> u32 {
        chunks::present(self.column(column, i), self.columns)
    }

    /// That chunk, with zeros for what is not there.
    ///
    /// # Safety
    ///
    /// The row is readable.
    #[inline(always)]
    #[track_caller]
    unsafe fn load_chunk(&self, column: u32, i: usize) -> [u32; 4] {
        let from = self.first.offset(u64::from(self.column(column, i)));
        // SAFETY: the caller's contract.
        unsafe { chunks::load(from, self.present(column, i), self.aligned) }
    }

    /// That chunk of a row of whole chunks, with zeros for one that is not there.
    ///
    /// # Safety
    ///
    /// The row is readable, up to a whole chunk.
    #[inline(always)]
    #[track_caller]
    unsafe fn load_whole_chunk(&self, column: u32, i: usize) -> [u32; 4] {
        let column = self.column(column, i);
        if column >= self.columns {
            return [0; 4];
        }
        // SAFETY: the caller's contract.
        unsafe { self.first.offset(u64::from(column)).cast::<[u32; 4]>().load() }
    }

    /// Stores that chunk.
    ///
    /// # Safety
    ///
    /// The row is writable, and nobody else touches this chunk.
    #[inline(always)]
    #[track_caller]
    unsafe fn store_chunk(&self, column: u32, i: usize, words: [u32; 4]) {
        let to = self.first.offset(u64::from(self.column(column, i)));
        // SAFETY: the caller's contract.
        unsafe { chunks::store(to, words, self.present(column, i), self.aligned) }
    }

    /// The lane's chunks of the group from `column` on.
    ///
    /// # Safety
    ///
    /// The row is readable.
    #[inline(always)]
    #[track_caller]
    unsafe fn load(&self, column: u32) -> Group {
        let mut group = [[0; 4]; HELD];
        let mut i = 0;
        while i < HELD {
            // SAFETY: the caller's contract.
            group[i] = unsafe { self.load_chunk(column, i) };
            i += 1;
        }
        group
    }

    /// Calls `f` with the first column and the lane's chunks of each group, the first of which are `held`.
    ///
    /// # Safety
    ///
    /// The row is readable.
    #[inline(always)]
    #[track_caller]
    unsafe fn for_each_group(&self, held: &Group, mut f: impl FnMut(u32, &Group)) {
        let (mut column, mut group) = (0, *held);
        // One call of `f`, so that the compiler makes no function of it.
        loop {
            f(column, &group);
            column += GROUP;
            if column >= self.columns {
                break;
            }
            // SAFETY: the caller's contract.
            group = unsafe { self.load(column) };
        }
    }
}

/// Calls `f` with each element of a lane's chunks: chunk, number in it, value.
#[inline(always)]
fn each(group: &Group, mut f: impl FnMut(usize, u32, f32)) {
    let mut i = 0;
    while i < HELD {
        let mut j = 0;
        while j < CHUNK_ELEMENTS {
            f(i, j, half(group[i], j));
            j += 1;
        }
        i += 1;
    }
}

/// Element `j` of a chunk.
#[inline(always)]
fn half(chunk: [u32; 4], j: u32) -> f32 {
    f16_to_f32((chunk[j as usize / 2] >> (16 * (j % 2))) as u16)
}

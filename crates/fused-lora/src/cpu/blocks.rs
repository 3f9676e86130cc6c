//! How rows and K are cut.

use std::ops::Range;

use super::{
    kernel::{CHUNK, MicroKernel},
    panels::steps,
};

/// A block of few rows is no longer than it has to be for its x to stay beside W in a small L2; a longer one
/// saves f32 sums that go through memory between two.
const FEW_ROWS_BYTES: usize = 64 << 10;

/// Nearly equal blocks of whole tiles, the larger ones first; the last tile may have fewer rows.
#[derive(Clone, Copy)]
pub(crate) struct RowBlocks {
    first: usize,
    end: usize,
    /// Rows of a tile.
    mr: usize,
    pub(crate) count: usize,
}

impl RowBlocks {
    /// So many blocks, or as many more as keep each at the kernel's most rows, but no more than tiles.
    pub(crate) fn new<M: MicroKernel>(rows: Range<usize>, at_least: usize) -> Self {
        let tiles = rows.len().div_ceil(M::MR);
        let most = M::BLOCK[0].div_ceil(M::MR);
        let count = tiles.div_ceil(most).next_multiple_of(at_least.max(1)).min(tiles);
        Self { first: rows.start, end: rows.end, mr: M::MR, count }
    }

    /// All rows.
    pub(crate) fn all(&self) -> Range<usize> {
        self.first..self.end
    }

    /// Tiles before block `i`.
    fn tiles_before(&self, i: usize) -> usize {
        let tiles = (self.end - self.first).div_ceil(self.mr);
        i * (tiles / self.count) + i.min(tiles % self.count)
    }

    pub(crate) fn range(&self, block: usize) -> Range<usize> {
        let [start, end] = [block, block + 1].map(|i| self.first + self.tiles_before(i) * self.mr);
        start..end.min(self.end)
    }

    /// Rows of the longest block.
    pub(crate) fn longest(&self) -> usize {
        if self.count == 0 { 0 } else { self.range(0).len() }
    }
}

/// Which rows threads take for themselves, and which they do together.
pub(crate) struct Rows {
    /// As many whole tiles for each thread.
    pub(crate) apart: RowBlocks,
    /// The odd rows; or all, where each thread would have too few.
    pub(crate) together: RowBlocks,
}

impl Rows {
    pub(crate) fn new<M: MicroKernel>(rows: usize, threads: usize) -> Self {
        let apart = if threads == 1 {
            rows
        } else {
            let each = rows / M::MR / threads * M::MR;
            if each < M::APART { 0 } else { each * threads }
        };
        Self { apart: RowBlocks::new::<M>(0..apart, threads), together: RowBlocks::new::<M>(apart..rows, 1) }
    }
}

/// Blocks of K, of equally many whole chunks but for the last one.
#[derive(Clone, Copy)]
pub(crate) struct KBlocks {
    k: usize,
    size: usize,
    pub(crate) count: usize,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct KBlock {
    pub(crate) range: Range<usize>,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

/// The steps of a panel that a K block is.
pub(crate) fn steps_of<M: MicroKernel>(k: &KBlock) -> Range<usize> {
    let first = k.range.start / M::DEPTH;
    first..first + steps::<M>(k.range.len())
}

impl KBlocks {
    /// For blocks of so many rows.
    pub(crate) fn new<M: MicroKernel>(k: usize, rows: usize) -> Self {
        let of_few_rows = FEW_ROWS_BYTES / size_of::<M::X>() / rows.max(1) * M::DEPTH;
        let longest = M::BLOCK[1].max(of_few_rows);
        let size = k.div_ceil(k.div_ceil(longest)).next_multiple_of(CHUNK * M::DEPTH);
        Self { k, size, count: k.div_ceil(size) }
    }

    /// Steps of the longest.
    pub(crate) fn longest<M: MicroKernel>(&self) -> usize {
        steps::<M>(self.size.min(self.k))
    }

    pub(crate) fn block(&self, i: usize) -> KBlock {
        let range = i * self.size..((i + 1) * self.size).min(self.k);
        KBlock { range, first: i == 0, last: i + 1 == self.count }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = KBlock> + use<> {
        let blocks = *self;
        (0..blocks.count).map(move |i| blocks.block(i))
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::cpu::{Simd, kernel::levels::Level, simd::dispatch};

    #[test]
    fn rows_and_k_are_covered_once_at_every_level() {
        for simd in Simd::available() {
            dispatch!(simd, f16, f16 => check_rows());
            dispatch!(simd, bf16, bf16 => check_rows());
            dispatch!(simd, f16, f16 => check_k());
            dispatch!(simd, bf16, bf16 => check_k());
        }
    }

    fn check_rows<L: Level>() {
        let mr = L::Main::MR;
        for rows in (1..300).chain([511, 512, 513, 16384]) {
            for threads in [1, 2, 3, 64] {
                let Rows { apart, together } = Rows::new::<L::Main>(rows, threads);
                let case = format!("MR {mr}, {rows} rows, {threads} threads");
                let mut next = 0;
                for blocks in [&apart, &together] {
                    assert_eq!(blocks.all().start, next, "{case}");
                    for range in (0..blocks.count).map(|block| blocks.range(block)) {
                        assert!(
                            range.start == next && range.end > next && range.len() <= blocks.longest(),
                            "{case}"
                        );
                        assert!((range.start - blocks.first).is_multiple_of(mr), "{case}");
                        next = range.end;
                    }
                    assert!(blocks.longest() < L::Main::BLOCK[0] + mr && blocks.all().end == next, "{case}");
                }
                assert_eq!(next, rows, "{case}");
                // The same number of whole tiles for each thread, and less than a tile more of them left
                // over.
                let left = together.all().len();
                let even = apart.all().len().is_multiple_of(mr * threads) && left < mr * threads;
                assert!(apart.count == 0 || threads == 1 || even, "{case}");
                assert!(apart.count.is_multiple_of(threads), "{case}");
            }
        }
    }

    /// Threads that take blocks in turn have the same number of tiles: the larger blocks come first.
    #[test]
    fn blocks_are_even() {
        use crate::cpu::kernel::portable::Fma;
        for (rows, threads, counts) in [
            (128, 2, [2, 0]),
            (256, 2, [4, 0]),
            (8192, 2, [128, 0]),
            (513, 3, [9, 1]),
            (100, 1, [2, 0]),
            (40, 2, [0, 1]),
        ] {
            let Rows { apart, together } = Rows::new::<Fma<f32>>(rows, threads);
            assert_eq!([apart.count, together.count], counts, "{rows} rows, {threads} threads");
            let of_thread = |thread| -> usize {
                (thread..apart.count).step_by(threads).map(|b| apart.range(b).len()).sum()
            };
            assert!(
                (1..threads).all(|thread| of_thread(0).abs_diff(of_thread(thread)) <= 4),
                "{rows}, {threads}"
            );
        }
    }

    fn check_k<L: Level>() {
        for k in (1..3000).step_by(7).chain([1023, 1024, 1025, 2048, 4097, 11008]) {
            for rows in [1, 4, 8, 64] {
                let blocks = KBlocks::new::<L::Main>(k, rows);
                let mut next = 0;
                for KBlock { range, first, last } in blocks.iter() {
                    assert!(range.start == next && range.end > next, "k {k}");
                    assert!(range.start % L::Main::K_GRANULE == 0, "k {k}");
                    assert!(steps::<L::Main>(range.len()) <= blocks.longest::<L::Main>(), "k {k}");
                    assert_eq!((first, last), (range.start == 0, range.end == k), "k {k}");
                    next = range.end;
                }
                assert_eq!((next, blocks.iter().count()), (k, blocks.count));
                // Of one row, the whole of K in one block.
                assert!(rows > 1 || blocks.count == 1 || k > 4096, "k {k}");
            }
        }
    }
}

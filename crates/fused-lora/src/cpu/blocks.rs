//! How rows and K are cut.

use std::ops::Range;

use super::kernel::MicroKernel;

/// Rows of a block. 64 rows of a K block are 256 KiB of f32: with a panel of W, 96 KiB, they fit in an L2 of
/// 512 KiB, and W is read from beyond it once in 64 rows (half a byte a cycle).
const MC: usize = 64;
/// Longest K block. Between two, f32 sums go through memory, once in KC steps of 24 FMAs.
const KC: usize = 1024;

/// Equal blocks of whole tiles.
#[derive(Clone, Copy)]
pub(crate) struct RowBlocks {
    rows: usize,
    pub(crate) size: usize,
    pub(crate) count: usize,
}

impl RowBlocks {
    /// At most MC rows each, rounded up to whole tiles, and as many blocks as keep all threads busy to the
    /// end.
    pub(crate) fn new<K: MicroKernel>(rows: usize, threads: usize) -> Self {
        let wanted = rows.div_ceil(MC).next_multiple_of(threads);
        let size = rows.div_ceil(wanted).next_multiple_of(K::MR);
        Self { rows, size, count: rows.div_ceil(size) }
    }

    pub(crate) fn range(&self, block: usize) -> Range<usize> {
        block * self.size..((block + 1) * self.size).min(self.rows)
    }

    /// Tiles of a block.
    pub(crate) fn tiles<K: MicroKernel>(&self) -> usize {
        self.size.div_ceil(K::MR)
    }
}

/// Nearly equal blocks of K.
#[derive(Clone, Copy)]
pub(crate) struct KBlocks {
    k: usize,
    pub(crate) count: usize,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct KBlock {
    pub(crate) range: Range<usize>,
    pub(crate) first: bool,
    pub(crate) last: bool,
}

impl KBlocks {
    pub(crate) fn new(k: usize) -> Self {
        Self { k, count: k.div_ceil(KC) }
    }

    pub(crate) fn longest(&self) -> usize {
        self.k.div_ceil(self.count)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = KBlock> {
        let (k, size, count) = (self.k, self.longest(), self.count);
        (0..count).map(move |i| KBlock {
            range: i * size..((i + 1) * size).min(k),
            first: i == 0,
            last: i + 1 == count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Simd, kernel::portable::Portable, simd::dispatch};

    #[test]
    fn row_blocks_cover_all_rows_in_whole_tiles() {
        for simd in Simd::available() {
            dispatch!(simd, Kernel => check_row_blocks::<Kernel>());
        }
    }

    fn check_row_blocks<K: MicroKernel>() {
        for rows in (1..300).chain([511, 512, 513, 16384]) {
            for threads in [1, 2, 3, 64] {
                let blocks = RowBlocks::new::<K>(rows, threads);
                let case = format!("MR {}, {rows} rows, {threads} threads", K::MR);
                assert!(blocks.size < MC + K::MR && blocks.size == blocks.tiles::<K>() * K::MR, "{case}");
                let mut next = 0;
                for range in (0..blocks.count).map(|block| blocks.range(block)) {
                    assert!(range.start == next && range.end > next, "{case}");
                    next = range.end;
                }
                assert_eq!(next, rows, "{case}");
            }
        }
    }

    #[test]
    fn row_blocks_keep_all_threads_busy() {
        // (rows, threads) → blocks
        for (rows, threads, count) in
            [(128, 2, 2), (256, 2, 4), (512, 2, 8), (8192, 2, 128), (512, 3, 9), (100, 1, 2)]
        {
            assert_eq!(
                RowBlocks::new::<Portable>(rows, threads).count,
                count,
                "{rows} rows, {threads} threads"
            );
        }
    }

    #[test]
    fn k_blocks_cover_k_evenly() {
        for k in (1..3000).step_by(7).chain([KC - 1, KC, KC + 1, 2 * KC, 4 * KC + 1]) {
            let blocks = KBlocks::new(k);
            let mut next = 0;
            for KBlock { range, first, last } in blocks.iter() {
                assert!(
                    range.start == next && range.end > next && range.len() <= blocks.longest().min(KC),
                    "k {k}"
                );
                assert_eq!((first, last), (range.start == 0, range.end == k), "k {k}");
                next = range.end;
            }
            assert_eq!((next, blocks.iter().count()), (k, k.div_ceil(KC)));
        }
    }
}

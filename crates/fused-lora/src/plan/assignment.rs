//! Which rows of a batch have which adapter, as the kernels' tables say it.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

use fused_lora_kernels::{
    params::{RowTile, Segment},
    sm90_tile::BLOCK_K,
    table::{KERNELS, Kernel, Operation, SM90_KERNELS},
};

use super::{
    error::Error,
    sizes::{count, count_u64, rank16},
};

/// The alignment of the tables in the memory of an assignment, in bytes.
const ALIGNMENT: usize = 16;

/// The segments of a batch, and where their tables lie: segments first, then the row tiles for each shape of
/// tile.
#[derive(Debug)]
pub(crate) struct Assignment {
    /// A number that no other assignment has.
    pub(crate) id: u64,
    /// The segments with an adapter of rank above 0.
    pub(crate) segments: Vec<Segment>,
    /// The largest r₁₆ that a row has.
    pub(crate) max_rank16: u32,
    tiles: Vec<TileTable>,
    /// Bytes of all tables, a multiple of 16.
    pub(crate) bytes: usize,
}

/// The row tiles for one shape of tile.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TileTable {
    block_m: u32,
    /// Columns of h in a work item of the shrink.
    chunk: u32,
    /// Where they start, in bytes.
    pub(crate) offset: usize,
    pub(crate) entries: Vec<RowTile>,
    /// Work items of the shrink.
    pub(crate) h_items: u32,
    /// Columns of h that those make, over all of them.
    pub(crate) columns: u64,
    /// The most segments that a row tile has.
    pub(crate) most_segments: u32,
    /// The most columns of h that a row tile has, those of all its segments together.
    pub(crate) most_columns: u32,
    /// The most steps of the expand that a row tile has, of up to [`BLOCK_K`] columns of one segment.
    pub(crate) most_steps: u32,
}

impl Assignment {
    /// The assignment of rows to adapters: ranges of `m` rows, in order and without overlap, and the index of
    /// each one's adapter, whose ranks are `ranks`.
    pub(crate) fn new(m: usize, rows: &[(Range<usize>, usize)], ranks: &[u32]) -> Result<Self, Error> {
        let m_count = count("M", m)?;
        let segments = kept(rows, ranks);
        let rank16_of = |segment: &Segment| rank16(ranks[segment.adapter as usize]);
        let mut bytes = size_of_val(&*segments);
        let mut tiles = Vec::new();
        for (block_m, chunk) in shapes() {
            let offset = bytes.next_multiple_of(ALIGNMENT);
            let table = TileTable { offset, ..row_tiles(&segments, rank16_of, m_count, block_m, chunk)? };
            bytes = offset + size_of_val(&*table.entries);
            tiles.push(table);
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let bytes = bytes.next_multiple_of(ALIGNMENT);
        Ok(Self { id, max_rank16: segments.iter().map(rank16_of).max().unwrap_or(0), segments, tiles, bytes })
    }

    /// The row tiles for a kernel; None for a kernel without adapters.
    pub(crate) fn tiles(&self, kernel: &Kernel) -> Option<&TileTable> {
        self.tiles.iter().find(|tiles| (tiles.block_m, tiles.chunk) == shape(kernel))
    }

    /// All of them.
    pub(crate) fn tables(&self) -> &[TileTable] {
        &self.tiles
    }
}

/// Rows of a kernel's tiles, and columns of its work items of the shrink.
fn shape(kernel: &Kernel) -> (u32, u32) {
    (kernel.block_m, kernel.h_columns)
}

/// Whether a kernel has adapters.
fn has_adapters(kernel: &Kernel) -> bool {
    !matches!(kernel.operation, Operation::Gemm | Operation::GemmSplitK)
}

/// The shapes of tile for which tables are needed, each once.
fn shapes() -> Vec<(u32, u32)> {
    let kernels = KERNELS.iter().chain(SM90_KERNELS);
    let mut shapes: Vec<_> = kernels.filter(|kernel| has_adapters(kernel)).map(shape).collect();
    shapes.sort_unstable();
    shapes.dedup();
    shapes
}

/// The segments with something to add.
fn kept(rows: &[(Range<usize>, usize)], ranks: &[u32]) -> Vec<Segment> {
    let with_rank = rows.iter().filter(|(rows, adapter)| ranks[*adapter] > 0 && !rows.is_empty());
    let segment = |(rows, adapter): &(Range<usize>, usize)| {
        // Not above M, and not above the table's length, which were counted.
        let [first_row, last_row, adapter] = [rows.start, rows.end, *adapter].map(|value| value as u32);
        Segment { first_row, last_row, adapter, reserved: 0 }
    };
    with_rank.map(segment).collect()
}

/// The kernels' table of row tiles, with one entry more than there are, and its sums; its place is left open.
/// `segments` are in order, none is empty, and all have a rank.
fn row_tiles(
    segments: &[Segment],
    rank16: impl Fn(&Segment) -> u32,
    m: u32,
    block_m: u32,
    chunk: u32,
) -> Result<TileTable, Error> {
    let mut entries = Vec::with_capacity(m.div_ceil(block_m) as usize + 1);
    let (mut first, mut items, mut columns) = (0, 0u64, 0);
    let mut table = TileTable {
        block_m,
        chunk,
        offset: 0,
        entries: Vec::new(),
        h_items: 0,
        columns: 0,
        most_segments: 0,
        most_columns: 0,
        most_steps: 0,
    };
    for row_tile in 0..m.div_ceil(block_m) {
        let first_row = row_tile * block_m;
        while segments.get(first).is_some_and(|segment| segment.last_row <= first_row) {
            first += 1;
        }
        entries.push(RowTile { first_segment: first as u32, first_item: count_u64("work items", items)? });
        let within = segments[first..].iter().take_while(|segment| segment.first_row < first_row + block_m);
        let (mut found, mut tile_columns, mut tile_steps) = (0, 0, 0);
        for rank16 in within.map(&rank16) {
            items += u64::from(rank16.div_ceil(chunk));
            tile_columns += u64::from(rank16);
            tile_steps += u64::from(rank16.div_ceil(BLOCK_K));
            found += 1;
        }
        columns += tile_columns;
        table.most_segments = table.most_segments.max(found);
        table.most_columns = table.most_columns.max(count_u64("the ranks of a row tile", tile_columns)?);
        table.most_steps = table.most_steps.max(count_u64("the ranks of a row tile", tile_steps)?);
    }
    let h_items = count_u64("work items", items)?;
    entries.push(RowTile { first_segment: segments.len() as u32, first_item: h_items });
    Ok(TileTable { entries, h_items, columns, ..table })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The work items of the shrink as the kernels look for them: `h_item` of `sm80/schedule.rs` and
    /// `next_part` of `sm80/segments.rs`, in plain Rust. (row tile, segment, chunk)
    fn h_item(
        table: &[RowTile],
        segments: &[Segment],
        ranks: &[u32],
        m: u32,
        block: (u32, u32),
        index: u32,
    ) -> (u32, u32, u32) {
        let row_tile =
            (0..m.div_ceil(block.0)).rev().find(|&t| table[t as usize].first_item <= index).unwrap();
        let mut chunk = index - table[row_tile as usize].first_item;
        let first_row = row_tile * block.0;
        let mut segment = table[row_tile as usize].first_segment;
        loop {
            let found = segments[segment as usize];
            assert!(found.first_row < m.min(first_row + block.0), "the search left the row tile");
            segment += 1;
            if found.last_row > first_row {
                let chunks = ranks[found.adapter as usize].next_multiple_of(16).div_ceil(block.1);
                if chunk < chunks {
                    return (row_tile, segment - 1, chunk);
                }
                chunk -= chunks;
            }
        }
    }

    proptest! {
        #[test]
        fn row_tiles_lead_to_every_work_item_once(
            // Gap before, length, adapter.
            parts in proptest::collection::vec((0usize..200, 0usize..300, 0usize..6), 0..12),
            tail in 0usize..200,
            shape in 0usize..shapes().len(),
        ) {
            let ranks = [0, 1, 10, 64, 250, 300];
            let (block_m, chunk) = shapes()[shape];
            let mut rows = Vec::new();
            let mut end = 0;
            for &(gap, length, adapter) in &parts {
                rows.push((end + gap..end + gap + length, adapter));
                end += gap + length;
            }
            let m = (end + tail).max(1);
            let segments = kept(&rows, &ranks);
            let rank16_of = |segment: &Segment| rank16(ranks[segment.adapter as usize]);
            let sums = row_tiles(&segments, rank16_of, m as u32, block_m, chunk).unwrap();
            let table = &sums.entries;

            // What is there, counted without the table.
            let mut expected = Vec::new();
            let (mut most, mut columns) = (0, 0);
            let (mut most_columns, mut most_steps) = (0, 0);
            for row_tile in 0..m.div_ceil(block_m as usize) {
                let tile = row_tile * block_m as usize..m.min((row_tile + 1) * block_m as usize);
                let mut found = 0;
                let (columns_before, mut steps) = (columns, 0);
                for (number, segment) in segments.iter().enumerate() {
                    if tile.clone().any(|row| (segment.first_row..segment.last_row).contains(&(row as u32))) {
                        found += 1;
                        columns += u64::from(rank16_of(segment));
                        steps += rank16_of(segment).div_ceil(64);
                        for number_of in 0..rank16_of(segment).div_ceil(chunk) {
                            expected.push((row_tile as u32, number as u32, number_of));
                        }
                    }
                }
                most = most.max(found);
                most_columns = most_columns.max(columns - columns_before);
                most_steps = most_steps.max(steps);
            }
            prop_assert_eq!(sums.h_items as usize, expected.len());
            prop_assert_eq!((sums.columns, sums.most_segments), (columns, most));
            prop_assert_eq!((u64::from(sums.most_columns), sums.most_steps), (most_columns, most_steps));
            prop_assert_eq!(table.len(), m.div_ceil(block_m as usize) + 1);
            prop_assert_eq!(table.last().unwrap().first_item, sums.h_items);
            let found: Vec<_> = (0..sums.h_items)
                .map(|index| h_item(table, &segments, &ranks, m as u32, (block_m, chunk), index))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn only_segments_with_something_to_add_are_kept() {
        let ranks = [0, 10, 250];
        let rows = [(0..5, 1), (9..9, 2), (20..30, 0), (30..40, 2)];
        let segment = |first_row, last_row, adapter| Segment { first_row, last_row, adapter, reserved: 0 };
        assert_eq!(kept(&rows, &ranks), [segment(0, 5, 1), segment(30, 40, 2)]);
    }

    #[test]
    fn every_kernel_with_adapters_has_a_table() {
        let shapes = shapes();
        for kernel in KERNELS.iter().chain(SM90_KERNELS).filter(|kernel| has_adapters(kernel)) {
            let tables = shapes.iter().filter(|found| **found == shape(kernel)).count();
            assert_eq!(tables, 1, "{}", kernel.name);
        }
    }

    #[test]
    fn tables_lie_behind_each_other() {
        let rows = [(0..5, 1), (60..70, 2)];
        let assignment = Assignment::new(200, &rows, &[0, 10, 250]).unwrap();
        assert_eq!(assignment.max_rank16, 256);
        let mut end = 2 * 16;
        for table in assignment.tables() {
            assert!(table.offset >= end && table.offset < end + 16 && table.offset.is_multiple_of(16));
            assert_eq!(table.entries.len(), 200usize.div_ceil(table.block_m as usize) + 1);
            end = table.offset + table.entries.len() * 8;
            // Rows 0 to 4 and 60 to 63 meet in any tile.
            assert_eq!((table.most_segments, table.most_columns), (2, 16 + 256));
            assert_eq!(table.most_steps, 1 + 4);
            // The second one reaches into the next tile of 64.
            assert_eq!(table.columns, 16 + if table.block_m == 64 { 2 * 256 } else { 256 });
        }
        assert_eq!(assignment.bytes, end);
        assert_eq!(assignment.tables().len(), shapes().len());

        let none = Assignment::new(7, &[(0..7, 0)], &[0]).unwrap();
        assert_eq!((none.max_rank16, none.segments.len()), (0, 0));
    }
}

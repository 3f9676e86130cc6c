//! Several adapters in one batch.

use std::ops::Range;

use fused_lora_kernels::table::{Kernel, Operation};

use crate::{
    case::{AdapterCase, Case, Rows},
    suite::{for_each_operation, hold, hold_all, kernels, schedules, takes},
};

fn adapter(rank: usize, scale: f32, columns: Option<Range<usize>>) -> AdapterCase {
    AdapterCase { rank, scale, columns }
}

/// Ranks {none, 10, 250} and cuts at and beside the borders of row tiles.
pub(crate) fn mixed(kernel: &Kernel) -> Case {
    let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
    let adapters = vec![adapter(10, 0.5, None), adapter(250, -0.25, None), adapter(0, 7.0, None)];
    let rows = Rows::Table(vec![
        (0..5, 0),
        // One row, then some without a segment.
        (5..6, 1),
        (20..m - 1, 2),
        // Over a border.
        (m - 1..m + 3, 1),
        (m + 3..m + 4, 0),
        (m + 9..2 * m, 0),
        // The last tile has a hole at its start.
        (2 * m + 2..2 * m + 9, 1),
    ]);
    Case { adapters, rows, seed: 8, ..Case::new(2 * m + 9, n + 10, 40, 0) }
}

/// Ranges inside a column tile, across tiles, and such as leave out some tiles.
pub(crate) fn column_ranges(kernel: &Kernel) -> Case {
    let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
    let adapters = vec![
        adapter(10, 0.5, Some(3..n - 3)),
        adapter(17, 2.0, Some(n - 7..n + 9)),
        adapter(33, -1.0, Some(n..2 * n)),
        adapter(16, 1.0, Some(2 * n..2 * n + 1)),
        adapter(40, 1.0, Some(n - 1..n)),
    ];
    // The second tile has only adapters without columns in tile 0.
    let rows = Rows::Table(vec![
        (0..7, 0),
        (7..20, 1),
        (20..21, 2),
        (21..m / 2, 3),
        (m / 2..m - 1, 4),
        (m..m + 4, 3),
        (m + 4..m + 9, 2),
    ]);
    Case { adapters, rows, seed: 9, pad_y: 1, ..Case::new(m + 11, 2 * n + 10, 136, 0) }
}

/// One segment with an adapter in each row tile, of few ranks: what every kernel takes.
pub(crate) fn sparse(kernel: &Kernel) -> Case {
    let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
    let adapters = vec![
        adapter(10, 0.5, None),
        adapter(16, -1.0, Some(n - 5..n + 3)),
        adapter(0, 1.0, None),
        adapter(1, 3.0, Some(n..n + 8)),
    ];
    let rows = Rows::Table(vec![
        (2..m - 3, 0),
        (m - 3..m + 3, 2),
        (m + 3..2 * m, 1),
        // The third row tile has none, the fourth one row.
        (3 * m + 1..3 * m + 2, 3),
    ]);
    Case { adapters, rows, seed: 10, ..Case::new(3 * m + 5, n + 10, 72, 0) }
}

/// A scale and a column range for all rows, by the parameters.
pub(crate) fn uniform_range(kernel: &Kernel) -> Case {
    let n = kernel.block_n as usize;
    let adapters = vec![adapter(13, -1.5, Some(n - 9..n + 2))];
    Case { adapters, seed: 11, ..Case::new(30, 2 * n + 8, 40, 0) }
}

/// Tables with nothing in them, and with a rank of zero.
pub(crate) fn bare(_: &Kernel) -> Vec<Case> {
    let none = Case { rows: Rows::Table(vec![]), ..Case::new(70, 30, 40, 10) };
    let unranked = Case { rows: Rows::Table(vec![(0..70, 0)]), ..Case::new(70, 30, 40, 0) };
    vec![none, unranked]
}

fn tables(operation: Operation) {
    hold_all(operation, 3, |kernel| {
        let mut cases = vec![mixed(kernel), column_ranges(kernel), sparse(kernel), uniform_range(kernel)];
        cases.extend(bare(kernel));
        cases
    });
}

/// As many segments in a row tile as the kernel takes, of one row or a few each.
fn many_segments(operation: Operation) {
    for kernel in kernels(operation) {
        let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
        let adapters = vec![adapter(1, 0.5, None), adapter(3, -2.0, Some(1..n)), adapter(2, 1.0, None)];
        let case = (0..8).rev().map(|log| {
            let (count, rows) = (1 << log, m >> log);
            let rows = (0..count).map(|i| (i * rows..(i + 1) * rows, i % 3)).collect();
            let case = Case {
                adapters: adapters.clone(),
                rows: Rows::Table(rows),
                ..Case::new(m + 1, n + 1, 40, 0)
            };
            case.adapted_to(kernel)
        });
        let case = case.filter(|case| !case.segments()[0].0.is_empty()).find(|case| takes(kernel, case));
        let case = case.unwrap_or_else(|| panic!("{} takes no segments", kernel.name));
        hold(kernel, &case, &schedules(0, 1));
    }
}

/// The table with one segment and the parameters' adapter take the same way through other code: bit for bit.
fn one_segment_is_uniform(operation: Operation) {
    for kernel in kernels(operation) {
        let (m, n) = (kernel.block_m as usize + 9, kernel.block_n as usize + 3);
        for (turn, rank) in [9, 30, 200].into_iter().enumerate() {
            let adapters = vec![AdapterCase { scale: 0.3, ..AdapterCase::new(rank) }];
            let uniform = Case { adapters, bias: true, ..Case::new(m, n, 72, 0) };
            if !takes(kernel, &uniform) {
                continue;
            }
            let table = Case { rows: Rows::Table(vec![(0..m, 0)]), ..uniform.clone() };
            let [uniform, table] = [uniform, table].map(|case| {
                let (machine, setup, _) = hold(kernel, &case, &schedules(turn, 1)[..1]);
                if operation == Operation::Shrink { setup.h_bits(&machine) } else { setup.y_bits(&machine) }
            });
            assert_eq!(uniform, table, "{}, rank {rank}", kernel.name);
        }
    }
}

for_each_operation!(many_segments: fused recompute cooperative);
for_each_operation!(tables: fused recompute cooperative shrink expand);
for_each_operation!(one_segment_is_uniform: fused recompute cooperative shrink expand);

//! More row tiles than a group has, and grids of any size.

use fused_lora_kernels::table::{Kernel, Operation};

use crate::{
    case::{AdapterCase, Case, Rows, all_kernels},
    suite::{for_each_operation, hold, hold_all, schedules, takes},
};

/// So many row tiles and a bit, in two columns of tiles; K and rank are as small as they can be.
fn large(kernel: &Kernel, row_tiles: usize) -> Case {
    let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
    Case { seed: 12, ..Case::new(row_tiles * m + 1, n + 1, 8, 9) }
}

/// The same with adapters for some of the rows.
pub(crate) fn large_table(kernel: &Kernel) -> Case {
    let m = kernel.block_m as usize;
    let adapters = vec![AdapterCase::new(3), AdapterCase { scale: -1.0, ..AdapterCase::new(16) }];
    // All of the first group but its first tile, none of the second but its last; one row of the third.
    let rows = Rows::Table(vec![(m..16 * m, 0), (31 * m + 3..32 * m - 1, 1), (34 * m..34 * m + 1, 0)]);
    Case { adapters, rows, ..large(kernel, 34) }
}

/// Two groups and a bit, or, where a tile is expensive, one.
fn groups(operation: Operation) {
    hold_all(operation, 1, |kernel| {
        if kernel.block_m * kernel.block_n > 64 * 64 {
            return vec![Case { grid: Some(3), ..large(kernel, 17) }];
        }
        vec![Case { grid: Some(5), ..large(kernel, 34) }, Case { grid: Some(200), ..large_table(kernel) }]
    });
}

fn grids(operation: Operation) {
    hold_all(operation, 2, |kernel| {
        let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
        let case = Case { seed: 13, ..Case::new(m + 1, n + 1, 40, 15) };
        [1, 2, 3, 23].map(|grid| Case { grid: Some(grid), ..case.clone() }).into()
    });
}

/// Several tiles for each cluster, the last CTAs of which have no columns, or none of an adapter's: all must
/// go on in step nevertheless.
#[test]
fn clusters_with_several_tiles() {
    for kernel in all_kernels().filter(|kernel| kernel.clusters()) {
        let (m, n) = (kernel.block_m as usize, kernel.block_n as usize);
        for (turn, cluster) in [2, 4, 8].into_iter().enumerate() {
            let all = Case { cluster: Some(cluster), grid: Some(cluster), ..Case::new(m + 3, n + 5, 77, 13) };
            let adapters = vec![
                AdapterCase { columns: Some(0..9), ..AdapterCase::new(9) },
                AdapterCase { columns: Some(n..2 * n), ..AdapterCase::new(16) },
            ];
            let rows = Rows::Table(vec![(3..m - 1, 0), (m - 1..m + 2, 1)]);
            let ranges = Case { adapters, rows, n: 2 * n + 5, ..all.clone() };
            for case in [all, ranges] {
                let case = case.adapted_to(kernel);
                if takes(kernel, &case) {
                    hold(kernel, &case, &schedules(turn, 2));
                }
            }
        }
    }
}

for_each_operation!(groups: gemm fused recompute cooperative shrink expand);
for_each_operation!(grids: gemm fused recompute cooperative shrink expand);

//! Base, shrink and expand, one launch after another.

use fused_lora::{Activation, Strategy};
use fused_lora_kernels::table::{KERNELS, Operation};

use crate::{
    case::{AdapterCase, Case, Rows, kernel},
    setup::set_up,
    suite::{for_each_operation, schedules, takes},
};

/// Kernels that go together: one table of row tiles for all three.
pub(crate) const ROADS: [[&str; 3]; 3] = [
    ["gemm_128x128", "shrink_128x128", "expand_128x128"],
    ["gemm_64x64", "shrink_64x64", "expand_64x64"],
    ["gemm_64x64_any", "shrink_64x64_any", "expand_64x64"],
];

#[test]
fn every_shrink_and_expand_is_on_a_road() {
    for kernel in KERNELS.iter().filter(|k| matches!(k.operation, Operation::Shrink | Operation::Expand)) {
        assert!(ROADS.iter().any(|road| road.contains(&kernel.name)), "{}", kernel.name);
    }
}

fn hold(road: [&str; 3], count: usize, case: &Case) {
    let kernels = road.map(kernel);
    if !kernels.iter().all(|kernel| takes(kernel, case)) {
        return;
    }
    let (mut machine, setup) = set_up(case, kernels[2]);
    for schedule in schedules(count, count) {
        setup
            .run_unfused(&mut machine, kernels, &schedule)
            .unwrap_or_else(|report| panic!("{road:?}: {report}\n{case:?}\n{schedule:?}"));
        setup
            .check(&machine, Strategy::Unfused)
            .unwrap_or_else(|numbers| panic!("{road:?}: {numbers}\n{case:?}\n{schedule:?}"));
    }
}

fn one_adapter() {
    for road in ROADS {
        for rank in [0, 1, 10, 33, 250] {
            hold(road, 2, &Case { bias: rank % 2 == 0, ..Case::new(70, 75, 72, rank) });
        }
        hold(road, 2, &Case { residual: true, pad_y: 3, shift_y: 1, ..Case::new(131, 130, 40, 20) });
        hold(road, 2, &Case { pad_x: 3, shift_x: 5, ..Case::new(65, 66, 37, 20) });
    }
}

/// Bias with the base, all else with the expand; without an adapter, all with the base.
fn epilogues() {
    for road in ROADS {
        for rank in [0, 20] {
            let case = Case {
                bias: true,
                activation: Some(Activation::GeluTanh),
                pad_y: 3,
                pad_residual: 2,
                second_residual: true,
                ..Case::new(70, 75, 72, rank)
            };
            hold(road, 1, &Case { residual: true, ..case.clone() });
            hold(road, 1, &Case { in_place: true, ..case.clone() });
            hold(road, 1, &Case { activation: None, in_place: true, second_residual: false, ..case.clone() });
            hold(road, 1, &Case { second_residual: false, ..case });
        }
    }
}

fn several_adapters() {
    for road in ROADS {
        let [_, _, expand] = road.map(kernel);
        let (m, n) = (expand.block_m as usize, expand.block_n as usize);
        let adapters = vec![
            AdapterCase::new(10),
            AdapterCase { scale: -2.0, columns: Some(7..n + 3), ..AdapterCase::new(250) },
            AdapterCase::new(0),
        ];
        let rows = vec![(1..9, 0), (9..10, 1), (12..m - 2, 2), (m - 2..m + 5, 1), (m + 5..m + 7, 0)];
        hold(road, 3, &Case { adapters, rows: Rows::Table(rows), ..Case::new(m + 8, n + 9, 72, 0) });
    }
}

fn roads(_: Operation) {
    one_adapter();
    epilogues();
    several_adapters();
}

// The other two launches are on each road, too.
for_each_operation!(roads: expand);

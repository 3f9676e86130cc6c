//! NaN, infinities, and what overflows.

use fused_lora::Strategy;
use fused_lora_kernels::table::{Kernel, Operation};
use half::f16;
use ndarray::Array2;

use crate::{
    case::{AdapterCase, Case, Operand, Rows},
    suite::{for_each_operation, hold, kernels, schedules, takes},
};

const ROW: usize = 3;

/// A case with one adapter for rows 0 to 40 and another for the rest, but for kernels that take one a row
/// tile.
fn case(kernel: &Kernel, rank: usize) -> Case {
    let n = kernel.block_n as usize + 4;
    let uniform = Case { seed: 14, ..Case::new(50, n, 40, rank) };
    if kernel.operation == Operation::FusedRecompute || kernel.slices_k() {
        return uniform;
    }
    let adapters = vec![AdapterCase::new(rank), AdapterCase::new(20)];
    Case { adapters, rows: Rows::Table(vec![(0..40, 0), (40..48, 1)]), ..uniform }
}

/// Runs a case over schedules; gives y.
fn run(kernel: &'static Kernel, case: &Case) -> Array2<f16> {
    let (machine, setup, _) = hold(kernel, case, &schedules(0, 2));
    setup.y_bits(&machine).mapv(f16::from_bits)
}

fn every(operation: Operation, test: impl Fn(&'static Kernel)) {
    kernels(operation).for_each(test);
}

/// NaN in a row of x is NaN in that row of y, everywhere, and in no other.
fn nan_in_x(operation: Operation) {
    every(operation, |kernel| {
        for column in [0, 39] {
            let planted = vec![(Operand::X, ROW, column, f32::NAN)];
            let y = run(kernel, &Case { planted, ..case(kernel, 7) });
            for ((row, column), value) in y.indexed_iter() {
                assert_eq!(value.is_nan(), row == ROW, "{}: y[{row}, {column}] = {value}", kernel.name);
            }
        }
    });
}

/// An infinity in x makes infinities, not NaN, where only one of base and adapter says which way, or both
/// agree: the padding of a rank is not multiplied with it.
fn infinity_in_x(operation: Operation) {
    every(operation, |kernel| {
        let planted = vec![(Operand::X, ROW, 5, f32::INFINITY)];
        let y = run(kernel, &Case { planted, ..case(kernel, 1) });
        let row = y.row(ROW);
        assert!(row.iter().all(|value| !value.is_finite()));
        assert!(row.iter().any(|value| value.is_infinite()), "{}: rank padding is not zero", kernel.name);
        if !matches!(operation, Operation::Gemm | Operation::GemmSplitK) {
            assert!(row.iter().any(|value| value.is_nan()), "{}: no adapter", kernel.name);
        }
    });
}

/// Finite operands whose h is infinite: with rank 1, y is, too, as B's sign says; other rows are not.
fn h_overflows(operation: Operation) {
    every(operation, |kernel| {
        let planted = vec![(Operand::X, ROW, 5, 1000.0), (Operand::A(0), 0, 5, 1000.0)];
        let (machine, setup, _) = hold(kernel, &Case { planted, ..case(kernel, 1) }, &schedules(0, 2));
        if operation == Operation::Shrink {
            assert_eq!(machine.read::<u16>(setup.h_row(ROW), 1).unwrap(), [f16::INFINITY.to_bits()]);
            return;
        }
        let y = setup.y_bits(&machine).mapv(f16::from_bits);
        for ((row, column), value) in y.indexed_iter() {
            assert_eq!(value.is_infinite(), row == ROW, "{}: y[{row}, {column}] = {value}", kernel.name);
        }
    });
}

/// Sums beyond the largest f16 become infinities.
fn y_overflows(operation: Operation) {
    every(operation, |kernel| {
        let planted =
            vec![(Operand::X, ROW, 1, 60000.0), (Operand::W, 2, 1, 30.0), (Operand::W, 4, 1, -30.0)];
        let y = run(kernel, &Case { planted, ..case(kernel, 0) });
        assert_eq!([y[[ROW, 2]], y[[ROW, 4]]], [f16::INFINITY, f16::NEG_INFINITY]);
        assert_eq!(y.iter().filter(|value| value.is_infinite()).count(), 2, "{}", kernel.name);
    });
}

/// An infinite h makes its row's sums in the adapter's columns infinite, and touches no other row and no
/// other cluster's columns. Beside the range but in its clusters' tiles, h meets zeros: NaN, as `Adapter` says
/// (the check allows that there alone).
fn infinite_h_and_a_column_range(operation: Operation) {
    every(operation, |kernel| {
        let planted = vec![(Operand::X, ROW, 5, 1000.0), (Operand::A(0), 0, 5, 1000.0)];
        let adapters = vec![AdapterCase { columns: Some(9..22), ..AdapterCase::new(1) }];
        let case = Case { planted, adapters, rows: Rows::Uniform, ..case(kernel, 1) };
        let width = (kernel.block_n * case.cluster_for(kernel)) as usize;
        let case = Case { n: width + 4, ..case };
        let y = run(kernel, &case);
        for ((row, column), value) in y.indexed_iter() {
            let at = format!("{}: y[{row}, {column}] = {value}", kernel.name);
            if row == ROW && (9..22).contains(&column) {
                assert!(value.is_infinite(), "{at}");
            } else if row != ROW || column >= width {
                assert!(value.is_finite(), "{at}");
            }
        }
    });
}

/// The same through `unfused`.
#[test]
fn unfused_values() {
    use crate::{setup::set_up, unfused};
    for kernels in unfused::ROADS {
        let kernels = kernels.map(crate::case::kernel);
        let planted = vec![(Operand::X, ROW, 5, f32::NAN), (Operand::X, ROW + 2, 7, f32::NEG_INFINITY)];
        let case = Case { planted, ..case(kernels[2], 1) };
        assert!(kernels.iter().all(|kernel| takes(kernel, &case)));
        let (mut machine, setup) = set_up(&case, kernels[2]);
        for schedule in schedules(0, 2) {
            setup.run_unfused(&mut machine, kernels, &schedule).unwrap();
            setup.check(&machine, Strategy::Unfused).unwrap();
        }
    }
}

for_each_operation!(nan_in_x: gemm split_k fused recompute cooperative expand);
for_each_operation!(infinity_in_x: gemm split_k fused recompute cooperative);
for_each_operation!(h_overflows: fused recompute cooperative shrink expand);
for_each_operation!(y_overflows: gemm split_k fused recompute cooperative);
for_each_operation!(infinite_h_and_a_column_range: fused recompute cooperative expand);

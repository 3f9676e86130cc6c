//! An adapter on some columns of y, through every kernel that takes one, against the reference's of an
//! adapter whose B is zero in the others. Skipped where there is no device.
#![cfg(gpu)]

mod common;
#[path = "common/cuda.rs"]
mod on_device;

use common::Operands;
use fused_lora::{
    Strategy,
    cuda::{Adapter, KERNELS, Launch, Layer, Operation, SM90_KERNELS, Workspace},
};
use ndarray::s;
use on_device::{Memory, Placed, assert_agrees, device, expected, with_stream};

#[test]
fn every_kernel_adds_to_these_columns_alone() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let makes_y = |operation| {
        matches!(operation, Operation::Fused | Operation::FusedRecompute | Operation::FusedCooperative)
    };
    for kernel in KERNELS.iter().chain(SM90_KERNELS).filter(|kernel| kernel.aligned) {
        if device.resident(kernel) == 0 || !makes_y(kernel.operation) && kernel.operation != Operation::Expand
        {
            continue;
        }
        let block = kernel.block_n as usize;
        // Three column tiles; columns in the middle of the first two, from the second on, and of the last
        // alone.
        let (m, n, k, rank) = (kernel.block_m as usize + 3, 2 * block + 24, 72, 10);
        for columns in [block / 2..block + 8, block..n, 2 * block..2 * block + 8] {
            let mut operands = Operands::random(block as u64, m, n, k, rank);
            operands.b.slice_mut(s![..columns.start, ..]).fill(half::f16::ZERO);
            operands.b.slice_mut(s![columns.end.., ..]).fill(half::f16::ZERO);
            let b = operands.b.slice(s![columns.clone(), ..]);
            let adapter =
                Adapter::on_columns(&device, operands.a.view(), b, operands.scale, columns.clone(), n)
                    .unwrap();
            assert_eq!(adapter.columns(), columns);
            let layer = Layer::new(&device, operands.w.view()).unwrap().with_adapter(adapter).unwrap();
            let strategy = if makes_y(kernel.operation) { Strategy::Fused } else { Strategy::Unfused };
            let allow = |launch: &Launch| {
                launch.kernel.name == kernel.name
                    || launch.kernel.operation != kernel.operation && strategy == Strategy::Unfused
            };
            let x = Placed::copy_of(&device, &operands.x, Memory::default());
            let mut y = Placed::poisoned(&device, m, n, Memory::default());
            let mut workspace = Workspace::new(&device, layer.workspace_size(m)).unwrap();
            let case = format!("{} columns {columns:?} of {n}", kernel.name);
            layer
                .call(x.view())
                .strategy(strategy)
                .among(&allow)
                .run(y.view_mut(), &mut workspace, &stream)
                .unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_agrees(&y, &expected(&operands, strategy, false), &case);
        }
    }
}

/// B is zero beside the columns, so right numbers alone would not show whether the kernels know them. An h of
/// infinity does: times zero it is NaN, which has to stay in the tiles, or the cluster's, that the columns
/// are in.
#[test]
fn tiles_beside_the_columns_do_without_the_adapter() {
    let Some((device, stream, _alone)) = with_stream() else { return };
    let (m, n, k, rank) = (4, 4096, 64, 10);
    let mut operands = Operands::random(3, m, n, k, rank);
    operands.a.fill(half::f16::MAX);
    operands.x.mapv_inplace(|x| half::f16::from_f32(x.to_f32().abs() + 1.0));
    let columns = n - 64..n;
    let b = operands.b.slice(s![columns.clone(), ..]);
    let adapter = Adapter::on_columns(&device, operands.a.view(), b, 1.0, columns, n).unwrap();
    let layer = Layer::new(&device, operands.w.view()).unwrap().with_adapter(adapter).unwrap();
    let x = Placed::copy_of(&device, &operands.x, Memory::default());
    let mut workspace = Workspace::new(&device, layer.workspace_size(m)).unwrap();
    let mut run = |strategy| {
        let mut y = Placed::poisoned(&device, m, n, Memory::default());
        layer.call(x.view()).strategy(strategy).run(y.view_mut(), &mut workspace, &stream).unwrap();
        y.read().0
    };
    let (base, fused) = (run(Strategy::Base), run(Strategy::Fused));
    // A cluster has eight tiles of at most 256 columns.
    let far = s![.., ..n - 8 * 256];
    for (fused, base) in fused.slice(far).iter().zip(base.slice(far)) {
        // The two may sum in another order; a NaN is not below anything.
        let apart = (fused.to_f32() - base.to_f32()).abs();
        assert!(apart <= 0.01 * base.to_f32().abs().max(1.0), "{fused} is not {base}");
    }
    assert!(fused.slice(s![.., n - 64..]).iter().all(|y| !y.is_finite()), "h has to overflow");
}

#[test]
fn columns_that_are_not_there_are_refused() {
    let Some((device, _alone)) = device() else { return };
    let operands = Operands::random(1, 1, 16, 8, 4);
    let on = |columns: std::ops::Range<usize>| {
        let b = operands.b.slice(s![..8, ..]);
        Adapter::on_columns(&device, operands.a.view(), b, 1.0, columns, 16).map(|_| ()).unwrap_err()
    };
    for (first, end) in [(9, 17), (3, 3), (16, 24)] {
        let error = on(first..end);
        assert_eq!(error, fused_lora::Error::Columns { columns: (first, end), out_features: 16 }.into());
        assert_eq!(error.to_string(), format!("the adapter adds to columns {first} to {end} of 16"));
    }
    // Eight rows of B for nine columns.
    let error = on(0..9).to_string();
    assert!(error.contains("B has 8 rows") || error.contains("expected 9"), "{error}");
}

//! Activation and residuals.

use fused_lora::Activation;
use fused_lora_kernels::table::{Kernel, Operation};
use fused_lora_simt::Schedule;
use half::f16;

use crate::{
    case::{Case, Operand, kernel},
    setup::set_up,
    suite::{for_each_operation, hold_all},
};

pub(crate) fn cases(kernel: &Kernel) -> Vec<Case> {
    let (m, n) = (kernel.block_m as usize + 5, kernel.block_n as usize);
    let rank = if kernel.h > 0 { kernel.h as usize - 6 } else { 37 };
    let gelu = Some(Activation::GeluTanh);
    let case = |n: usize| Case { seed: 7, ..Case::new(m, n, 40, rank) };
    vec![
        // Everything, in whole chunks; strides that differ.
        Case {
            bias: true,
            activation: gelu,
            residual: true,
            second_residual: true,
            pad_y: 16,
            pad_residual: 8,
            ..case(n + 8)
        },
        // Everything, nothing aligned.
        Case {
            bias: true,
            activation: gelu,
            residual: true,
            second_residual: true,
            pad_y: 3,
            pad_residual: 1,
            shift_epilogue: 1,
            ..case(n + 3)
        },
        // One of the two is y.
        Case {
            bias: true,
            activation: gelu,
            in_place: true,
            second_residual: true,
            pad_residual: 2,
            ..case(n + 16)
        },
        // Each alone.
        Case { activation: gelu, ..case(n + 5) },
        Case { second_residual: true, pad_residual: 8, ..case(n - 1) },
        Case { activation: gelu, in_place: true, pad_y: 5, ..case(n + 7) },
        // Whole chunks could be read, but the last one of a row is not all there.
        Case {
            activation: gelu,
            residual: true,
            second_residual: true,
            pad_residual: 5,
            pad_y: 5,
            ..case(n + 3)
        },
    ]
}

fn epilogues(operation: Operation) {
    hold_all(operation, 2, cases);
}

// (The shrink has none.)
for_each_operation!(epilogues: gemm split_k fused recompute cooperative expand);

/// GELU in the form with tanh.
fn gelu(t: f64) -> f64 {
    t / (1.0 + (-(8.0 / std::f64::consts::PI).sqrt() * (t + 0.044715 * t.powi(3))).exp())
}

/// The first columns of x times those of W are the sums.
fn planted(x: &[[f32; 3]], w: &[[f32; 3]], k: usize) -> Vec<(Operand, usize, usize, f32)> {
    let rows = |operand, rows: &[[f32; 3]]| -> Vec<_> {
        let value = |row: &[f32; 3], column: usize| row.get(column).copied().unwrap_or(0.0);
        let row =
            |(i, row): (usize, &[f32; 3])| (0..k).map(|j| (operand, i, j, value(row, j))).collect::<Vec<_>>();
        rows.iter().enumerate().flat_map(row).collect()
    };
    [rows(Operand::X, x), rows(Operand::W, w)].concat()
}

/// The sums run from -12 to 12 by 1/256, and the residual takes away what f16 has of GELU: so y shows what is
/// behind that. (Of a GELU below 2⁻³, less: y has no bits under 2⁻²⁴.) Approximations err as the schedule's
/// seed says: not at all, all the way down or up, at random.
#[test]
fn gelu_is_accurate() {
    const K: usize = 8;
    let x: Vec<_> = (0..96u8).map(|i| [f32::from(i) / 4.0 - 12.0, 1.0, 0.0]).collect();
    let w: Vec<_> = (0..64u8).map(|j| [1.0, f32::from(j) / 256.0, 0.0]).collect();
    let sum = |i: usize, j: usize| f64::from(x[i][0]) + f64::from(w[j][1]);
    let taken = |i: usize, j: usize| f16::from_f64(gelu(sum(i, j)));
    let mut case = Case {
        activation: Some(Activation::GeluTanh),
        residual: true,
        planted: planted(&x, &w, K),
        ..Case::new(x.len(), w.len(), K, 0)
    };
    let all = (0..x.len()).flat_map(|i| (0..w.len()).map(move |j| (i, j)));
    case.planted.extend(all.clone().map(|(i, j)| (Operand::Residual, i, j, -taken(i, j).to_f32())));
    for name in ["gemm_64x64", "sm90_gemm_64x64"] {
        let (mut machine, setup) = set_up(&case, kernel(name));
        for seed in 0..8 {
            let schedule = Schedule::random(seed);
            machine.run(&[setup.launch(kernel(name), setup.params)], &schedule).unwrap();
            let y = setup.y_bits(&machine).mapv(f16::from_bits);
            for (i, j) in all.clone() {
                let (t, found) = (sum(i, j), y[[i, j]].to_f64() + taken(i, j).to_f64());
                let of_gelu = gelu(t).abs() * 2f64.powi(if t < -2.0 { -15 } else { -20 });
                let of_y = y[[i, j]].to_f64().abs() * 2f64.powi(-11) + 2f64.powi(-25);
                assert!((found - gelu(t)).abs() <= of_gelu + of_y, "{name}, seed {seed}: {t}: {found}");
            }
        }
    }
}

#[test]
fn gelu_has_its_limits() {
    let (large, infinity) = (60000.0, f32::INFINITY);
    let x = [
        [infinity, 0.0, 0.0],
        [-infinity, 0.0, 0.0],
        [f32::NAN, 0.0, 0.0],
        [large, 0.0, 0.0],
        [-large, 0.0, 0.0],
        // 3.6 · 10⁹
        [0.0, 0.0, large],
        [0.0, 0.0, -large],
        [-10.5, 0.0, 0.0],
        [0.0, 0.0, 0.0],
    ];
    let w = [[1.0, 0.0, large]; 8];
    let case = Case {
        activation: Some(Activation::GeluTanh),
        planted: planted(&x, &w, 8),
        ..Case::new(x.len(), w.len(), 8, 0)
    };
    let expected = [infinity, 0.0, f32::NAN, large, 0.0, infinity, 0.0, 0.0, 0.0];
    for name in ["gemm_64x64", "sm90_gemm_64x64"] {
        let (mut machine, setup) = set_up(&case, kernel(name));
        for seed in 0..4 {
            machine.run(&[setup.launch(kernel(name), setup.params)], &Schedule::random(seed)).unwrap();
            let y = setup.y_bits(&machine).mapv(f16::from_bits);
            for (expected, row) in expected.iter().zip(y.rows()) {
                let is = |y: &f16| y.to_f32() == *expected || y.is_nan() && expected.is_nan();
                assert!(row.iter().all(is), "{name}, seed {seed}: {expected}: {row}");
            }
        }
    }
}

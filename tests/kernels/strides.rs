//! Leading dimensions, operands that begin anywhere, bias and residual.

use fused_lora_kernels::table::{Kernel, Operation};

use crate::{
    case::Case,
    suite::{for_each_operation, hold_all},
};

fn cases(kernel: &Kernel) -> Vec<Case> {
    let (m, n) = (kernel.block_m as usize + 5, kernel.block_n as usize);
    let rank = if kernel.h > 0 { kernel.h as usize - 6 } else { 37 };
    let case = |n: usize, k: usize| Case { seed: 6, ..Case::new(m, n, k, rank) };
    vec![
        // Whole chunks of y, the last tile narrow; everything has a pitch.
        Case {
            pad_x: 8,
            pad_y: 16,
            pad_operands: 24,
            bias: true,
            residual: true,
            pad_residual: 8,
            ..case(n + 8, 72)
        },
        // Nothing of y, bias and residual is aligned.
        Case {
            pad_y: 3,
            shift_y: 1,
            bias: true,
            residual: true,
            pad_residual: 2,
            shift_epilogue: 1,
            ..case(n - 3, 40)
        },
        // y's stride allows whole chunks, its base does not; then the other way round.
        Case { pad_y: 8, shift_y: 4, bias: true, ..case(n, 40) },
        Case { pad_y: 4, residual: true, pad_residual: 4, ..case(n, 40) },
        // Whole chunks could be stored, but the last one of a row is not all y's, and not all bias and
        // residual.
        Case { pad_y: 5, bias: true, residual: true, pad_residual: 5, ..case(n + 3, 40) },
        // Rows of y next to each other, none aligned.
        Case { bias: true, ..case(n + 1, 24) },
        // y += …
        Case { in_place: true, bias: true, ..case(n + 11, 40) },
        Case { in_place: true, pad_y: 5, shift_y: 3, shift_epilogue: 3, bias: true, ..case(n + 7, 40) },
        Case { residual: true, ..case(19, 40) },
        // Rows of x are aligned, K is not; then nothing is.
        Case { pad_x: 3, ..case(20, 37) },
        Case { pad_x: 3, shift_x: 1, ..case(20, 37) },
        Case { pad_x: 5, shift_x: 7, pad_operands: 8, ..case(n + 3, 104) },
        Case { pad_x: 8, shift_x: 3, ..case(20, 64) },
        // x far into its rows' pitch: 16 bytes that are there, and none that is x.
        Case { pad_x: 24, shift_x: 16, pad_operands: 8, ..case(20, 104) },
    ]
}

fn strides(operation: Operation) {
    hold_all(operation, 2, cases);
}

for_each_operation!(strides: gemm split_k fused recompute cooperative shrink expand);

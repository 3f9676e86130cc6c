use fused_lora_kernels::{
    Global,
    params::{Epilogue, Params},
    table::Kernel,
};

use super::Operands;

/// `y = f16( h Bᵀ + y )`: y holds the base product, with the bias in it. Neither x nor W.
pub(super) fn params(operands: &Operands<'_>, kernel: &Kernel) -> Params {
    let lora = operands.adapters.lora(kernel, operands.m, operands.layout);
    let epilogue = Epilogue { residual: operands.y, ld_residual: operands.ldy, ..Epilogue::default() };
    Params { x: Global::NULL, w: Global::NULL, epilogue, lora, ..operands.base() }
}

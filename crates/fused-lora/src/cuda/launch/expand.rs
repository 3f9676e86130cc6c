use fused_lora_kernels::{
    Global,
    params::{Epilogue, Params},
    table::Kernel,
};

use super::Operands;

/// `y = f16( activation( h Bᵀ + base ) + residuals )`: the base product has the bias in it. Neither x nor W.
pub(super) fn params(operands: &Operands<'_>, kernel: &Kernel) -> Params {
    let lora = operands.adapters.lora(kernel, operands.m, operands.layout);
    let base = operands.base;
    let epilogue = Epilogue { addend: base.from, ld_addend: base.ld, ..operands.behind_the_bias() };
    Params { x: Global::NULL, w: Global::NULL, epilogue, lora, ..operands.base() }
}

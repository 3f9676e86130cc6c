use fused_lora_kernels::{params::Params, table::Kernel};

use super::Operands;

/// `y = f16( activation( x Wᵀ + f16( s · x Aᵀ ) Bᵀ + bias ) + residuals )`, h by way of the workspace.
pub(super) fn params(operands: &Operands<'_>, kernel: &Kernel) -> Params {
    Params { lora: operands.adapters.lora(kernel, operands.m, operands.layout), ..operands.base() }
}

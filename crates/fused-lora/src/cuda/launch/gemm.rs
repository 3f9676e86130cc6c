use fused_lora_kernels::params::Params;

use super::Operands;

/// `y = f16( x Wᵀ + bias )`
pub(super) fn params(operands: &Operands<'_>) -> Params {
    operands.base()
}
